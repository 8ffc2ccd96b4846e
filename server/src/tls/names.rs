//! Whose certificate it is: what is asked of it beside a good signature.

use core::net::IpAddr;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::TlsError;
use crate::config::security::Tls;

/// Whose certificates are taken: all that are signed well, or only some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All.
    Any,
    /// With one of these common names.
    Common(Vec<String>),
    /// For one of these hosts, names or addresses.
    Hosts(Vec<String>),
}

impl Names {
    /// As the flags say.
    ///
    /// # Errors
    /// If both kinds of names are wanted.
    pub fn new(tls: &Tls) -> Result<Self, TlsError> {
        match (tls.allowed_cns.is_empty(), tls.allowed_hostnames.is_empty()) {
            (true, true) => Ok(Self::Any),
            (false, true) => Ok(Self::Common(tls.allowed_cns.clone())),
            (true, false) => Ok(Self::Hosts(tls.allowed_hostnames.clone())),
            (false, false) => Err(TlsError::Flags(
                "allowed common names and allowed host names are mutually exclusive",
            )),
        }
    }

    /// Whether a certificate is one of them.
    pub fn allow(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Common(names) => {
                common_name(certificate).is_some_and(|name| names.contains(&name))
            }
            Self::Hosts(hosts) => hosts.iter().any(|host| is_for(certificate, host)),
        }
    }
}

/// The name of the subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// Whether a certificate is for a host.
fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(host))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

/// What a certificate says of the place that it is used from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It says nothing, or the place is right.
    Right,
    /// It says another.
    Wrong,
    /// One of these hosts, whatever their addresses are.
    Hosts(Vec<String>),
}

/// Compares a certificate with the address that it is used from (etcd `listener_tls.go`, `checkCertSAN`). Names with a
/// wildcard match no address: that would take asking for the name of the address.
pub fn place(certificate: &CertificateDer<'_>, from: IpAddr) -> Place {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Place::Wrong };
    let names = match parsed.subject_alternative_name() {
        Ok(Some(names)) => &names.value.general_names,
        Ok(None) => return Place::Right,
        Err(_) => return Place::Wrong,
    };
    let is_address = |name: &GeneralName<'_>| matches!(name, GeneralName::IPAddress(_));
    let host = |name: &GeneralName<'_>| {
        let GeneralName::DNSName(name) = name else { return None };
        Some((*name).to_owned())
    };
    let hosts: Vec<String> = names.iter().filter_map(host).collect();
    if !names.iter().any(is_address) && hosts.is_empty() || is_for(certificate, &from.to_string()) {
        return Place::Right;
    }
    let hosts: Vec<String> = hosts.into_iter().filter(|host| !host.starts_with('*')).collect();
    if hosts.is_empty() { Place::Wrong } else { Place::Hosts(hosts) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(common: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_are_compared_with_those_that_are_allowed() {
        let shown = certificate("alice", &["a.example", "*.b.example", "10.0.0.1"]);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (names, allowed) in [
            (Names::Any, true),
            (Names::Common(list(&["bob", "alice"])), true),
            (Names::Common(list(&["bob", "alic", "a.example"])), false),
            (Names::Hosts(list(&["a.example"])), true),
            (Names::Hosts(list(&["x.b.example"])), true),
            (Names::Hosts(list(&["10.0.0.1"])), true),
            (Names::Hosts(list(&["alice", "b.example", "10.0.0.2", "not a name"])), false),
        ] {
            assert_eq!(names.allow(&shown), allowed, "{names:?}");
        }
        let both =
            Tls { allowed_cns: list(&["a"]), allowed_hostnames: list(&["b"]), ..Tls::default() };
        assert!(Names::new(&both).is_err());
    }

    #[test]
    fn a_place_is_compared_with_addresses_first() {
        let from: IpAddr = "10.0.0.1".parse().unwrap();
        for (names, expected) in [
            ([].as_slice(), Place::Right),
            (&["10.0.0.1"], Place::Right),
            (&["a.example", "10.0.0.1"], Place::Right),
            (&["10.0.0.2"], Place::Wrong),
            (&["10.0.0.2", "a.example"], Place::Hosts(vec!["a.example".to_owned()])),
            (&["*.example"], Place::Wrong),
        ] {
            assert_eq!(place(&certificate("x", names), from), expected, "{names:?}");
        }
    }
}
