//! Functions of rows, written such that compilers make vector code of them: no branches, no calls, sums in several lanes.

/// How many sums are kept at once.
const LANES: usize = 16;

/// Centres a row and scales it to a variance of 1, then scales and shifts each value.
pub(super) fn layer_norm(row: &mut [f32], scale: &[f32], shift: &[f32]) {
    /// What keeps the division from failing, as the model was trained with.
    const EPSILON: f32 = 1e-12;
    let length = row.len() as f32;
    let mean = sum(row, |value| value) / length;
    let variance = sum(row, |value| (value - mean) * (value - mean)) / length;
    let factor = (variance + EPSILON).sqrt().recip();
    for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *value = (*value - mean) * factor * scale + shift;
    }
}

/// Gaussian error linear units, the exact kind: `x/2 * (1 + erf(x / sqrt 2))`.
pub(super) fn gelu(values: &mut [f32]) {
    for value in values {
        *value *= 0.5 + 0.5 * erf(*value * std::f32::consts::FRAC_1_SQRT_2);
    }
}

/// Makes shares of a row that add up to 1, by `exp`.
pub(super) fn softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in &mut *row {
        *value = exp(*value - greatest);
    }
    let factor = sum(row, |value| value).recip();
    for value in row {
        *value *= factor;
    }
}

/// Scales a row to the length 1, unless it is zero.
pub(super) fn normalise(row: &mut [f32]) {
    let length = sum(row, |value| value * value).sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|value| *value /= length);
    }
}

fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += of(*value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| of(*value)).sum::<f32>()
}

/// The error function as a quotient of polynomials, right to 5e-7: Eigen's `generic_fast_erf_float`.
#[inline]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut above = -2.726_142_3e-10;
    for factor in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2_f32] {
        above = above * square + factor;
    }
    let mut below = -1.456_607_2e-5;
    for factor in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2_f32] {
        below = below * square + factor;
    }
    x * above / below
}

/// `exp` of a number that is not above zero, right to 2e-7 of its value: Cephes' `expf`.
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding it leaves whole numbers in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    // ln 2 in two parts, the first of which multiplies exactly.
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let mut series = 1.987_569_1e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1_f32] {
        series = series * rest + factor;
    }
    let fraction = series * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    fraction * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with double precision.
    fn check(expected: impl Fn(f64) -> f64, approximate: impl Fn(f32) -> f32, range: std::ops::Range<f32>, error: f64) {
        for step in 0..=200_000_u32 {
            let x = range.start + (range.end - range.start) * step as f32 / 200_000.0;
            let (expected, found) = (expected(f64::from(x)), f64::from(approximate(x)));
            assert!((expected - found).abs() <= error, "{found} instead of {expected} for {x}");
        }
    }

    #[test]
    fn exp_is_right() {
        check(f64::exp, exp, -90.0..0.0, 2e-7);
    }

    /// The series of erf, which is exact enough where it is used.
    #[test]
    fn erf_is_right() {
        let series = |x: f64| {
            let mut term = x;
            let mut sum = x;
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        };
        check(series, erf, -4.0..4.0, 5e-7);
        assert!((erf(100.0) - 1.0).abs() < 5e-7 && (erf(-100.0) + 1.0).abs() < 5e-7);
    }

    #[test]
    fn rows_are_scaled() {
        let mut row: Vec<f32> = (0..37).map(|value| value as f32).collect();
        softmax(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        layer_norm(&mut row, &[1.0; 37], &[0.5; 37]);
        assert!((row.iter().sum::<f32>() / 37.0 - 0.5).abs() < 1e-5);
        normalise(&mut row);
        assert!((row.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-6);
        let mut zero = [0.0; 3];
        normalise(&mut zero);
        assert_eq!(zero, [0.0; 3]);
    }
}
