//! A search allocates nothing once it has run before: counted by an allocator of our own.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lookout_core::Embedding;
use lookout_index::{Index, IndexBuilder, SearchMethod};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn embedding(seed: u16) -> Embedding {
    let values = (0..24).map(|idx| f32::from(seed * 7 + idx * idx * 13 + 5).sin());
    Embedding::normalize(values.collect()).expect("a direction")
}

#[test]
fn searches_allocate_only_what_they_hand_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.lidx");
    for method in [SearchMethod::Exhaustive, SearchMethod::Graph] {
        let mut builder = IndexBuilder::new("test", 24).unwrap().search_by(method);
        for entry in 0..600 {
            builder.push(&format!("caption {entry}"), &embedding(entry), None).unwrap();
        }
        builder.write(&path, &|_, _| ()).unwrap();
        let index = Index::open(&path).unwrap();
        let queries: Vec<Embedding> = (600..700).map(embedding).collect();
        let mut hits = Vec::new();
        index.nearest(&queries[0], 128, &mut hits).unwrap();
        let before = COUNT.get();
        for query in &queries {
            index.nearest(query, 128, &mut hits).unwrap();
        }
        assert_eq!(COUNT.get() - before, 0, "{method:?}");

        // The list of candidates, text and embedding of each, and the buffers of hits and text.
        let before = COUNT.get();
        let found = index.search(&queries[0], 16).unwrap();
        assert_eq!(found.len(), 16);
        let count = COUNT.get() - before;
        assert!(count < 16 * 3 + 8, "{method:?}: {count} allocations");
    }
}
