//! Certificates for those who want TLS and have none (`--auto-tls`): signed by themselves, kept in the data directory, so
//! that whoever trusts one may go on doing so.

use core::time::Duration;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::files::TlsError;

/// The certificate and the key in a folder, which are made if they are not there.
///
/// `years` is how long the certificate is good; `now` the seconds since 1970.
///
/// # Errors
/// If they cannot be made or written.
pub fn in_folder(
    folder: &Path,
    hosts: &[String],
    years: u32,
    now: Duration,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert_file.exists() && key_file.exists() {
        return Ok((cert_file, key_file));
    }
    let (cert, key) = make(hosts, years, now).map_err(|error| {
        TlsError::Unusable(format!("cannot make a certificate for {hosts:?}: {error}"))
    })?;
    fs::create_dir_all(folder).map_err(|error| TlsError::Read(folder.to_owned(), error))?;
    write(&cert_file, &cert, 0o644)?;
    write(&key_file, &key, 0o600)?;
    Ok((cert_file, key_file))
}

fn make(hosts: &[String], years: u32, now: Duration) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let begin = rcgen::date_time_ymd(1970, 1, 1) + now;
    params.not_before = begin;
    params.not_after = begin + Duration::from_secs(u64::from(years) * YEAR_S);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "cairn");
    // It signs nobody else's; as its own authority it is trusted all the same.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// As etcd counts them.
const YEAR_S: u64 = 365 * 24 * 3600;

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| TlsError::Read(path.to_owned(), error))
}
