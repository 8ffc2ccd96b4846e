//! Addresses as etcd writes them: `http://10.0.0.1:2379`, `unix:///run/cairn.sock`.
//!
//! The text stays as Go prints a URL that it has parsed, because ids of members are computed from it
//! ([`identity`](crate::identity)). A URL library for browsers drops `:80` and adds a slash, and the member would
//! have another id than in etcd; therefore this small one.
//!
//! Limits: no user names, queries and fragments, which mean nothing here; no percent signs in paths of sockets.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A place to listen at or to be reached at. Ordered by its text, as etcd orders them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
    place: Place,
}

/// How to speak there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A Unix socket.
    Unix,
    /// TLS over a Unix socket.
    Unixs,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why a text is no URL that a member can use. The texts are etcd's where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Not one of the four schemes.
    Scheme(String),
    /// No host and port.
    NotHostPort(String),
    /// A path after the port.
    HasPath(String),
    /// A user, a query, a fragment, or a host with characters that no host has. Not repeated: it may be a secret.
    Malformed,
}

impl Url {
    /// Reads one URL; white space around it does not count.
    ///
    /// # Errors
    ///
    /// [`UrlError`] says what is missing or too much.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let no_scheme = || UrlError::Scheme(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(no_scheme)?;
        let scheme = Scheme::named(&scheme.to_ascii_lowercase()).ok_or_else(no_scheme)?;
        let place = match scheme {
            Scheme::Http | Scheme::Https => tcp_place(text, rest)?,
            Scheme::Unix | Scheme::Unixs => unix_place(rest)?,
        };
        Ok(Self { text: format!("{}:{rest}", scheme.name()), scheme, place })
    }

    /// Reads a list with commas. The result is sorted and may hold duplicates.
    ///
    /// # Errors
    ///
    /// [`UrlError`] of the first that is wrong; an empty list has one empty, wrong entry.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text without its scheme: host and port, or the path of a socket.
    pub fn authority(&self) -> &str {
        let rest = &self.text[self.scheme.name().len() + 1..];
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// How to speak there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// The host without brackets, maybe empty; `None` for a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self.place {
            Place::Tcp { port, .. } => Some(port),
            Place::Unix(_) => None,
        }
    }

    /// The address to listen at: an IP, or 127.0.0.1 for `localhost`. `None` for another name, which may mean
    /// several addresses or those of another machine, and for a Unix socket.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let Place::Tcp { host, port } = &self.place else { return None };
        if host == "localhost" {
            return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, *port)));
        }
        let ip: IpAddr = host.parse().ok()?;
        Some(SocketAddr::from((ip, *port)))
    }

    /// The path of a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix(path) => Some(path),
        }
    }

    /// The same scheme and port on another host.
    pub(crate) fn with_host(&self, host: IpAddr, port: u16) -> Self {
        let text = format!("{}://{}", self.scheme.name(), SocketAddr::from((host, port)));
        Self { text, scheme: self.scheme, place: Place::Tcp { host: host.to_string(), port } }
    }
}

/// What follows `http:`.
fn tcp_place(text: &str, rest: &str) -> Result<Place, UrlError> {
    let not_host_port = || UrlError::NotHostPort(text.to_owned());
    let rest = rest.strip_prefix("//").ok_or_else(not_host_port)?;
    if rest.contains(['@', '?', '#']) {
        return Err(UrlError::Malformed);
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (host, port) = authority.rsplit_once(':').ok_or_else(not_host_port)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ipv6) if ipv6.chars().all(is_ipv6_character) => ipv6,
        None if host.contains(':') => return Err(not_host_port()),
        None if host.chars().all(is_host_character) => host,
        Some(_) | None => return Err(UrlError::Malformed),
    };
    if !port.chars().all(|character| character.is_ascii_digit()) {
        return Err(not_host_port());
    }
    let port = port.parse().map_err(|_| not_host_port())?;
    if !path.is_empty() {
        return Err(UrlError::HasPath(text.to_owned()));
    }
    Ok(Place::Tcp { host: host.to_owned(), port })
}

/// What follows `unix:`. etcd joins host and path, so that `unix://name` is a file in the working directory.
fn unix_place(rest: &str) -> Result<Place, UrlError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains(['%', '?', '#']) {
        return Err(UrlError::Malformed);
    }
    Ok(Place::Unix(PathBuf::from(path)))
}

fn is_host_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_')
}

fn is_ipv6_character(character: char) -> bool {
    is_host_character(character) || matches!(character, ':' | '%')
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Unix, Self::Unixs]
            .into_iter()
            .find(|scheme| scheme.name() == name)
    }

    /// As in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl AsRef<str> for Url {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(text) => {
                write!(f, "URL scheme must be http, https, unix, or unixs: {text}")
            }
            Self::NotHostPort(text) => {
                write!(f, "URL address does not have the form \"host:port\": {text}")
            }
            Self::HasPath(text) => write!(f, "URL must not contain a path: {text}"),
            Self::Malformed => f.write_str(
                "URL must be a scheme, a host and a port, or a scheme and the path of a socket",
            ),
        }
    }
}

impl core::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_go_would_print() {
        for (text, printed) in [
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            (" HTTPS://Example.com:443 ", "https://Example.com:443"),
            ("http://[::1]:2380", "http://[::1]:2380"),
            ("http://:2379", "http://:2379"),
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("unixs://localhost:m1", "unixs://localhost:m1"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(Url::parse(text).unwrap().as_str(), printed);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_in_etcds_words() {
        for (text, why) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:b", "URL address does not have the form \"host:port\": http://a:b"),
            ("http://a:65536", "URL address does not have the form \"host:port\": http://a:65536"),
            ("http://a:+1", "URL address does not have the form \"host:port\": http://a:+1"),
            ("http://::1:80", "URL address does not have the form \"host:port\": http://::1:80"),
            ("http:a:1", "URL address does not have the form \"host:port\": http:a:1"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:1/v2", "URL must not contain a path: http://a:1/v2"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().to_string(), why, "{text}");
        }
        for text in
            ["http://me:secret@a:1", "http://a:1?x=y", "http://a b:1", "unix://", "http://[a/b]:1"]
        {
            let error = Url::parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret"));
            assert!(matches!(error, UrlError::Malformed | UrlError::NotHostPort(_)), "{text}");
        }
    }

    #[test]
    fn places_to_listen_at_are_known() {
        let address =
            |text: &str| Url::parse(text).unwrap().socket_address().map(|found| found.to_string());
        assert_eq!(address("http://localhost:2379").as_deref(), Some("127.0.0.1:2379"));
        assert_eq!(address("https://[::]:2379").as_deref(), Some("[::]:2379"));
        assert_eq!(address("http://example.com:2379"), None);
        assert_eq!(address("unix:///x"), None);
        assert_eq!(Url::parse("unix://a/b").unwrap().unix_path(), Some(Path::new("a/b")));
        let other =
            Url::parse("https://0.0.0.0:1").unwrap().with_host("10.1.2.3".parse().unwrap(), 5);
        assert_eq!(other.as_str(), "https://10.1.2.3:5");
    }

    #[test]
    fn lists_are_sorted_by_text() {
        let urls = Url::parse_list("http://b:1, http://a:2,http://a:10").unwrap();
        assert_eq!(format!("{urls:?}"), r#"["http://a:10", "http://a:2", "http://b:1"]"#);
    }
}
