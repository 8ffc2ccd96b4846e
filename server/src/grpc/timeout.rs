//! How long a client waits for its answer, as it says in `grpc-timeout` (gRPC over HTTP2, "Timeout").

use core::time::Duration;

use cairn_engine::api::Code;

use super::metadata::Metadata;
use super::status::Status;

/// The header.
pub(crate) const NAME: &str = "grpc-timeout";

/// Reads it; `None`: the client waits for ever.
///
/// # Errors
/// If it is not a positive number of at most eight digits and a unit.
pub fn read(metadata: &impl Metadata) -> Result<Option<Duration>, Status> {
    if metadata.value(NAME).is_none() {
        return Ok(None);
    }
    let malformed = || Status::new(Code::Internal, "malformed grpc-timeout");
    let text = metadata.text(NAME).ok_or_else(malformed)?;
    parse(text).map(Some).ok_or_else(malformed)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("2H", Some(Duration::from_secs(7200))),
            ("1M", Some(Duration::from_secs(60))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("+5S", None),
            ("-5S", None),
            ("123456789S", None),
            ("5 S", None),
            ("5é", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
