//! One-place mailboxes for one consumer: one a camera, and one for labels. The newest wins.
//!
//! A slow consumer never works on a frame that a newer one has replaced, a fast camera never
//! blocks, and the consumer serves the camera that it served least recently.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lookout_core::Frame;

use crate::NewLabels;

/// What became of the frame that was waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// The mailbox was empty.
    Stored,
    /// An older frame was never taken. Count it.
    Displaced,
    /// The receiver is gone. Stop producing.
    Closed,
}

/// What [`FrameReceiver::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// Labels to go on with. They come before any frame.
    Labels(NewLabels),
    /// A frame, and the position of its camera.
    Frame(usize, Frame),
    /// No frame within the time allowed.
    TimedOut,
    /// Every sender is gone and nothing is left.
    Closed,
}

/// Puts the frames of one camera.
pub struct FrameSender {
    shared: Arc<Shared>,
    camera_idx: usize,
}

/// Puts labels for all cameras. Not waited for: without cameras there is nothing to label.
pub struct LabelSender(Arc<Shared>);

/// Takes the frames of all cameras.
pub struct FrameReceiver(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    labels: Option<NewLabels>,
    slots: Vec<Slot>,
    n_served: u64,
    n_senders: usize,
    receiver_gone: bool,
}

#[derive(Default)]
struct Slot {
    frame: Option<Frame>,
    /// `n_served` when this camera was last served.
    served_at: u64,
}

/// One sender a camera, in order, and the receiver.
pub fn mailboxes(n_cameras: usize) -> (Vec<FrameSender>, FrameReceiver) {
    let state = State {
        labels: None,
        slots: std::iter::repeat_with(Slot::default).take(n_cameras).collect(),
        n_served: 0,
        n_senders: n_cameras,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    let sender = |camera_idx| FrameSender { shared: Arc::clone(&shared), camera_idx };
    ((0..n_cameras).map(sender).collect(), FrameReceiver(shared))
}

impl FrameSender {
    /// Stores `frame`, in place of an older one.
    pub fn put(&self, frame: Frame) -> Put {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return Put::Closed;
        }
        let displaced = state.slots[self.camera_idx].frame.replace(frame);
        self.shared.changed.notify_one();
        if displaced.is_some() { Put::Displaced } else { Put::Stored }
    }
}

impl LabelSender {
    /// Stores `labels`, in place of older ones that were not taken. When they are not taken at
    /// all, they are dropped with the receiver or at once.
    pub fn put(&self, labels: NewLabels) {
        let mut state = self.0.lock();
        if !state.receiver_gone {
            state.labels = Some(labels);
            self.0.changed.notify_one();
        }
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        self.shared.lock().n_senders -= 1;
        self.shared.changed.notify_one();
    }
}

impl FrameReceiver {
    /// What puts labels into this receiver.
    pub fn label_sender(&self) -> LabelSender {
        LabelSender(Arc::clone(&self.0))
    }

    /// Waits for labels or a frame, for at most `timeout` of real time. Of several cameras the one
    /// that was served least recently is taken.
    pub fn take(&self, timeout: Option<Duration>) -> Taken {
        let mut state = self.0.lock();
        let idle = |state: &mut State| {
            0 < state.n_senders
                && state.labels.is_none()
                && state.slots.iter().all(|it| it.frame.is_none())
        };
        state = match timeout {
            None => self.0.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.0.changed.wait_timeout_while(state, timeout, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if let Some(labels) = state.labels.take() {
            return Taken::Labels(labels);
        }
        let n_served = state.n_served + 1;
        let waiting = state.slots.iter_mut().enumerate().filter(|(_, it)| it.frame.is_some());
        if let Some((idx, slot)) = waiting.min_by_key(|(_, it)| it.served_at)
            && let Some(frame) = slot.frame.take()
        {
            slot.served_at = n_served;
            state.n_served = n_served;
            return Taken::Frame(idx, frame);
        }
        if state.n_senders == 0 { Taken::Closed } else { Taken::TimedOut }
    }
}

impl Drop for FrameReceiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiver_gone = true;
        state.labels = None;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crossbeam_channel::{Receiver, TryRecvError, bounded};
    use lookout_core::Picture;

    fn frame(n: u64) -> Frame {
        let picture = Picture::new(1, 1, vec![0; 3]).unwrap();
        Frame { picture, captured_at: Duration::from_secs(n), name: None }
    }

    fn new_labels() -> (NewLabels, Receiver<()>) {
        let (done, is_done) = bounded(1);
        let labels = NewLabels { tracks: BTreeMap::new(), classes: BTreeMap::new(), done };
        (labels, is_done)
    }

    fn take(receiver: &FrameReceiver) -> Option<(usize, u64)> {
        match receiver.take(Some(Duration::ZERO)) {
            Taken::Frame(idx, frame) => Some((idx, frame.captured_at.as_secs())),
            Taken::Labels(_) | Taken::TimedOut | Taken::Closed => None,
        }
    }

    #[test]
    fn the_newest_frame_wins() {
        let (senders, receiver) = mailboxes(1);
        assert_eq!(take(&receiver), None);
        assert_eq!(senders[0].put(frame(1)), Put::Stored);
        assert_eq!(senders[0].put(frame(2)), Put::Displaced);
        assert_eq!(take(&receiver), Some((0, 2)));
        assert_eq!(take(&receiver), None);
    }

    #[test]
    fn the_least_recently_served_camera_is_next() {
        let (senders, receiver) = mailboxes(3);
        let mut served = Vec::new();
        for n in 0..6 {
            // The third camera is slow, the others always have a frame.
            senders[0].put(frame(n));
            senders[1].put(frame(n));
            if n % 3 == 2 {
                senders[2].put(frame(n));
            }
            served.extend(take(&receiver).map(|it| it.0));
        }
        assert_eq!(served, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_newest_labels_come_before_frames_and_go_with_the_receiver() {
        let (senders, receiver) = mailboxes(1);
        let labels = receiver.label_sender();
        let (old, old_done) = new_labels();
        let (new, _) = new_labels();
        labels.put(old);
        labels.put(new);
        assert_eq!(old_done.try_recv(), Err(TryRecvError::Disconnected), "displaced");
        assert!(matches!(receiver.take(None), Taken::Labels(_)), "without a frame");
        let (new, new_done) = new_labels();
        senders[0].put(frame(1));
        labels.put(new);
        assert!(matches!(receiver.take(None), Taken::Labels(_)), "before a frame");
        assert_eq!(new_done.try_recv(), Err(TryRecvError::Disconnected), "taken and dropped");
        assert_eq!(take(&receiver), Some((0, 1)));
        let (left, left_done) = new_labels();
        labels.put(left);
        assert_eq!(left_done.try_recv(), Err(TryRecvError::Empty));
        drop(receiver);
        assert_eq!(left_done.try_recv(), Err(TryRecvError::Disconnected));
        let (late, late_done) = new_labels();
        labels.put(late);
        assert_eq!(late_done.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn labels_keep_nobody_waiting() {
        let (senders, receiver) = mailboxes(1);
        let _labels = receiver.label_sender();
        drop(senders);
        assert!(matches!(receiver.take(None), Taken::Closed));
    }

    #[test]
    fn each_side_notices_the_other_leave() {
        let (senders, receiver) = mailboxes(2);
        senders[0].put(frame(1));
        drop(senders);
        assert!(matches!(receiver.take(None), Taken::Frame(0, _)), "what is left is delivered");
        assert!(matches!(receiver.take(None), Taken::Closed));
        let (senders, receiver) = mailboxes(1);
        drop(receiver);
        assert_eq!(senders[0].put(frame(1)), Put::Closed);
    }
}
