//! Skips work on a still scene: a frame that differs too little from the last evaluated one.

use std::time::Duration;

use lookout_core::Picture;

/// When a frame is not worth evaluating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateRules {
    /// Least mean change of luma over a grid of 32 by 32 cells, in 8-bit steps (0 to 255), at
    /// which a frame is evaluated. 0 evaluates every frame.
    pub luma_change: f64,
    /// A frame is evaluated at least this often, however still the scene is.
    pub interval: Duration,
}

/// Remembers the last evaluated frame.
#[derive(Debug)]
pub struct Gate {
    rules: GateRules,
    last: Option<(Vec<f64>, Duration)>,
}

const CELLS: u32 = 32;

impl Gate {
    /// The first frame is let through.
    pub fn new(rules: GateRules) -> Self {
        Self { rules, last: None }
    }

    /// Lets the next frame through.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Whether `picture` shows the scene of the last frame that this said no to.
    pub fn is_still(&mut self, picture: &Picture, now: Duration) -> bool {
        if self.rules.luma_change <= 0.0 {
            return false;
        }
        let grid = luma_grid(picture);
        if let Some((last, at)) = &self.last {
            let change: f64 = grid.iter().zip(last).map(|(a, b)| (a - b).abs()).sum();
            let is_due = self.rules.interval <= now.saturating_sub(*at);
            if !is_due && change / f64::from(CELLS * CELLS) < self.rules.luma_change {
                return true;
            }
        }
        self.last = Some((grid, now));
        false
    }
}

/// Mean luma (BT.601 weights in 256ths, so that gray is exact) of each cell. A picture with fewer pixels than cells repeats them.
fn luma_grid(picture: &Picture) -> Vec<f64> {
    let (width, height) = (picture.width_px(), picture.height_px());
    let span = |cell: u32, n: u32| {
        let edge = |cell: u32| u64::from(cell) * u64::from(n) / u64::from(CELLS);
        let (start, end) = (edge(cell), edge(cell + 1));
        start..end.max(start + 1)
    };
    let mut grid = Vec::with_capacity((CELLS * CELLS) as usize);
    for row in 0..CELLS {
        for column in 0..CELLS {
            let (mut sum, mut n) = (0.0, 0.0);
            for y in span(row, height) {
                for x in span(column, width) {
                    // The picture is in memory, so positions fit.
                    let at = usize::try_from((y * u64::from(width) + x) * 3).unwrap_or(usize::MAX);
                    if let Some(&[r, g, b]) = picture.rgb().get(at..at.saturating_add(3)) {
                        sum +=
                            f64::from(77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b));
                        n += 256.0;
                    }
                }
            }
            grid.push(sum / f64::max(n, 1.0));
        }
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(luma: u8) -> Picture {
        Picture::new(48, 20, vec![luma; 48 * 20 * 3]).unwrap()
    }

    #[test]
    fn a_still_scene_is_skipped_until_the_interval_ends() {
        let interval = Duration::from_secs(60);
        let mut gate = Gate::new(GateRules { luma_change: 2.0, interval });
        let at = Duration::from_secs;
        assert!(!gate.is_still(&flat(100), at(0)), "the first frame");
        assert!(gate.is_still(&flat(101), at(1)));
        assert!(!gate.is_still(&flat(102), at(2)), "changed by the bound");
        assert!(gate.is_still(&flat(102), at(61)));
        assert!(!gate.is_still(&flat(102), at(62)), "the interval is over");
        let mut off = Gate::new(GateRules { luma_change: 0.0, interval });
        assert!(!off.is_still(&flat(1), at(0)) && !off.is_still(&flat(1), at(0)));
    }

    #[test]
    fn a_slow_drift_adds_up() {
        let mut gate =
            Gate::new(GateRules { luma_change: 5.0, interval: Duration::from_secs(3600) });
        let evaluated =
            (0..=10u8).filter(|it| !gate.is_still(&flat(*it), Duration::from_secs(1))).count();
        assert_eq!(evaluated, 3, "frames 0, 5 and 10");
    }

    #[test]
    fn a_change_in_one_corner_counts() {
        let mut rgb = vec![0; 64 * 64 * 3];
        let before = luma_grid(&Picture::new(64, 64, rgb.clone()).unwrap());
        rgb[..12].fill(255);
        let after = luma_grid(&Picture::new(64, 64, rgb).unwrap());
        let changed: Vec<usize> =
            (0..1024).filter(|it| 1e-9 < (before[*it] - after[*it]).abs()).collect();
        assert_eq!(changed, [0, 1]);
        assert!((after[0] - 127.5).abs() < 1e-9);
        assert_eq!(luma_grid(&Picture::new(1, 1, vec![9; 3]).unwrap()), vec![9.0; 1024]);
    }
}
