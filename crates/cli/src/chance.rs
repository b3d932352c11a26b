//! Whether two rates differ by more than chance.
//!
//! The interval of a difference is Newcombe's (1998, method 10): it is made of the Wilson interval of each rate, and holds up where
//! counts are small or a rate is near 0 or 1. A table compares many rows at once, so the intervals are of 99 %, and a row with few
//! calls is not judged.

/// Fewer calls than this, before or after, are not judged.
pub const FEWEST: u64 = 20;
/// The quantile of the normal distribution for 99 %.
const Z: f64 = 2.575_829_303_548_901;

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The rate rose by more than chance.
    Rose,
    /// It fell by more than chance.
    Fell,
    /// The difference may be chance.
    Chance,
    /// There are too few calls to judge.
    TooFew,
}

/// The Wilson interval of a rate.
fn wilson(part: u64, all: u64) -> (f64, f64) {
    let (n, p) = (all as f64, part as f64 / all as f64);
    let z2 = Z * Z;
    let middle = p + z2 / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

/// Compares `part` of `all` now with what they were before.
pub fn compare((part, all): (u64, u64), (part_before, all_before): (u64, u64)) -> Change {
    if all < FEWEST || all_before < FEWEST {
        return Change::TooFew;
    }
    let (now, before) = (part as f64 / all as f64, part_before as f64 / all_before as f64);
    let ((low, high), (low_before, high_before)) = (wilson(part, all), wilson(part_before, all_before));
    let difference = now - before;
    let least = difference - ((now - low).powi(2) + (high_before - before).powi(2)).sqrt();
    let most = difference + ((high - now).powi(2) + (before - low_before).powi(2)).sqrt();
    match (least > 0.0, most < 0.0) {
        (true, _) => Change::Rose,
        (_, true) => Change::Fell,
        _ => Change::Chance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out from the formula by hand.
    #[test]
    fn wilson_intervals() {
        let (low, high) = wilson(56, 70);
        assert!((low - 0.6534).abs() < 0.001 && (high - 0.8948).abs() < 0.001, "{low} {high}");
        assert_eq!(wilson(0, 20).0, 0.0);
        assert!((wilson(20, 20).1 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_more_than_chance() {
        assert_eq!(compare((30, 100), (5, 100)), Change::Rose);
        assert_eq!(compare((5, 100), (30, 100)), Change::Fell);
        assert_eq!(compare((7, 100), (5, 100)), Change::Chance);
        assert_eq!(compare((19, 19), (0, 1000)), Change::TooFew);
        assert_eq!(compare((0, 20), (0, 20)), Change::Chance);
        assert_eq!(compare((20, 20), (0, 20)), Change::Rose);
    }

    /// Equal rates are marked in fewer than one table row of a hundred.
    #[test]
    fn equal_rates_are_seldom_marked() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let mut failures = || (0..60).filter(|_| random() < 0.1).count() as u64;
        let marked = (0..4000).filter(|_| compare((failures(), 60), (failures(), 60)) != Change::Chance).count();
        assert!(marked < 60, "{marked} of 4000");
    }
}
