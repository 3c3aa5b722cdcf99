//! Domain types, port traits and mathematics of Lookout: from embeddings to a decision.
//!
//! Nothing here does I/O, reads a clock or starts a thread; time enters as a value
//! ([`Clock`] is a trait for the outer crates). Embeddings are `f32`, everything after them is
//! `f64`. The formulas are those of X-MoRe (Eom, Ho, Oh, Yun, arXiv 2308.15273) unless a comment
//! says otherwise.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod adaptation;
mod background;
mod bank;
mod calibration;
mod caption;
mod classes;
mod classify;
mod decision;
mod device;
mod distribution;
mod embedding;
mod frame;
mod fusion;
mod id;
mod pooling;
mod ports;
mod retrieval;
mod stop;
mod suggest;
mod taught;

pub use adaptation::{AdaptationMode, Adapted, typical_distance};
pub use background::{Background, ClassBackground, InvalidBackground};
pub use bank::{Bank, BankWords};
pub use calibration::{
    CalibratedClass, Calibration, Calibrator, Extrapolation, MAX_VALUES, MIN_BLOCKS, MIN_FRAMES,
    NoBound, Temperature, TooFewFrames,
};
pub use caption::MAX_CAPTION_CHARS;
pub use classes::{Class, ClassKind, ClassSet, ClassSetError, DEFAULT_TEMPLATE};
pub use classify::{
    ClassEmbeddings, Classifier, ClassifyError, Evidence, LogitBias, LogitScale, Scales,
};
pub use decision::{
    Bound, Change, Decider, DecisionRules, InvalidRules, LastKnown, Memory, Observation, Outcome,
    Reason, Remembered, Snapshot, State, Verdict, When,
};
pub use device::{Device, UnknownDevice};
pub use distribution::{Distribution, DistributionError};
pub use embedding::{Embedding, EmbeddingError};
pub use frame::{Frame, Picture, PictureError};
pub use fusion::{Fuser, Means, Weighting, Weights, Window};
pub use id::{Id, InvalidId};
pub use ports::{
    CameraMemory, CameraStatus, CaptionSearch, Clock, Decision, Disposition, FrameSource,
    ImageEncoder, LessonRecall, PortError, Publish, Remember, Spool, Stamp, WaitingEvent,
};
pub use retrieval::{Candidate, Retrieved, Selection, choose};
pub use stop::{Stop, Stopper, stop_pair};
pub use suggest::suggest;
pub use taught::{Reach, Recalled, Taught, means};
