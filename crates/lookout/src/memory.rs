//! Gives the memory that only loading needs back to the system.
//!
//! Parsing a model and compiling labels needs several times the memory of running. glibc learns
//! from the first large blocks that it frees to keep such blocks in its heap, where they stay: a
//! daemon that should hold 75 MB then holds 210 MB for a year. So large blocks are mapped one by
//! one while loading, and only afterwards come from the heap, where the same tensors are
//! allocated again for every frame. Other C libraries are left alone.

/// Blocks of this size and above are mapped, and returned when freed, while loading.
#[cfg(target_env = "gnu")]
const LOADING_THRESHOLD: i32 = 128 << 10;

/// Above any tensor of a frame; also what the heap keeps at its end instead of returning it.
#[cfg(target_env = "gnu")]
const STEADY_THRESHOLD: i32 = if cfg!(target_pointer_width = "64") { 32 << 20 } else { 512 << 10 };

/// Loading begins.
pub(crate) fn loading() {
    #[cfg(target_env = "gnu")]
    set(libc::M_MMAP_THRESHOLD, LOADING_THRESHOLD);
}

/// Loading is over; the same work repeats from now on.
pub(crate) fn steady() {
    #[cfg(target_env = "gnu")]
    {
        set(libc::M_MMAP_THRESHOLD, STEADY_THRESHOLD);
        set(libc::M_TRIM_THRESHOLD, STEADY_THRESHOLD);
    }
}

/// A figure of this process in MiB, such as `VmHWM`, the most memory that it had.
pub(crate) fn status_mib(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe crate offers mallopt")]
fn set(parameter: i32, value: i32) {
    // SAFETY: mallopt takes two plain numbers and locks the allocator itself.
    let accepted = unsafe { libc::mallopt(parameter, value) };
    if accepted == 0 {
        tracing::debug!(parameter, value, "The allocator refuses a setting.");
    }
}
