//! What to do when members do not trust each other. Whoever reads the log at night should not have to know rustls.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls may add errors at any time, and most have no advice"
)]

use rustls::{AlertDescription, CertificateError, Error};

use super::server::Refused;

/// Why a member is turned away, or turned this one away, and what to do about it.
pub(super) fn explained(refused: Refused) -> String {
    let advice = match &refused {
        Refused::Handshake(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            match inner {
                Some(inner) => advice(inner),
                None if error.kind() == std::io::ErrorKind::UnexpectedEof => Some(HUNG_UP),
                None => None,
            }
        }
        Refused::Name => Some(NAMES),
        Refused::Late | Refused::PushedOut => None,
    };
    match advice {
        Some(advice) => format!("{refused}: {advice}"),
        None => refused.to_string(),
    }
}

fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::InvalidCertificate(error) => certificate_advice(error),
        Error::NoCertificatesPresented => Some(
            "the other member shows no certificate: give it --peer-cert-file and --peer-key-file",
        ),
        Error::AlertReceived(alert) => alert_advice(*alert),
        Error::InvalidMessage(_) => {
            Some("the other side does not speak TLS: do its peer URLs say https?")
        }
        // There are many more; their own texts must do.
        _ => None,
    }
}

fn certificate_advice(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::UnknownIssuer => Some(
            "the other member's certificate is of no authority in --peer-trusted-ca-file: give it one that is, or add its \
             authority to that file",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(
            "the other member's certificate has expired: replace its files, which are read again without a restart",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("the other member's certificate is not good yet: compare the clocks")
        }
        CertificateError::Revoked => {
            Some("the other member's certificate is in --peer-crl-file: give it a new one")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some(
                "the other member's certificate is not for the host in its peer URL: give it one that names it",
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Some(
            "members are servers and clients to each other: the certificate needs both extended key usages, or \
                 --peer-client-cert-file a second one",
        ),
        _ => None,
    }
}

fn alert_advice(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => Some(
            "the other member does not take this one's certificate: its log says why; compare --peer-cert-file here \
             with --peer-trusted-ca-file there",
        ),
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => Some(
            "the members have no version or cipher suite in common: compare --tls-min-version, --tls-max-version and \
             --cipher-suites",
        ),
        _ => None,
    }
}

/// Nothing is wrong with somebody who only looks whether anybody listens.
pub(super) const HUNG_UP: &str = "the other side hung up before the handshake was done";
const NAMES: &str = "compare the other member's certificate with --peer-cert-allowed-cn and --peer-cert-allowed-hostname";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_rustls_says_comes_first_and_advice_behind_it() {
        let explained_of = |error: Error| {
            explained(Refused::Handshake(io::Error::new(io::ErrorKind::InvalidData, error)))
        };
        let unknown = explained_of(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(unknown.starts_with("invalid peer certificate: UnknownIssuer: "), "{unknown}");
        assert!(unknown.contains("--peer-trusted-ca-file"), "{unknown}");
        let alert = explained_of(Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(alert.contains("its log says why"), "{alert}");
        assert_eq!(explained_of(Error::EncryptError), Error::EncryptError.to_string());
        assert_eq!(explained(Refused::Late), "the handshake took too long");
    }
}
