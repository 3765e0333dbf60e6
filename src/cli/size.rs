//! Numbers of bytes as text.

/// A number of bytes for people: three digits and a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 1023, 1024, 98_362_432, 1 << 32, 40 << 30, u64::MAX];
        let shown = sizes.map(super::bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.00 KiB", "93.8 MiB", "4.00 GiB", "40.0 GiB", "16384 PiB"]
        );
    }
}
