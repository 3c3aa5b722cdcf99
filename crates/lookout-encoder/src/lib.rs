//! Pictures and texts to embeddings through tract.
