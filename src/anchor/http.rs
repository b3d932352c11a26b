//! A single POST with bounds on the time, from the name look-up to the last byte, and on the size of the answer.
//!
//! Invariants: redirections are treated as answers and not followed, so a checkpoint goes only where it was configured
//! to go. The URL may not contain credentials, and nothing after its path is ever shown.

use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::time::Duration;

/// The target of a POST.
pub(crate) struct Endpoint {
    url: String,
    agent: ureq::Agent,
    timeout: Duration,
}

impl Endpoint {
    /// A URL and the timeout of each request.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Endpoint> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| Error::invalid("a URL begins with http://"))?;
        match scheme {
            "http" => {}
            "https" if cfg!(feature = "witness-tls") => {}
            "https" => {
                let message = "this build supports http only: build it with the feature `witness-tls`";
                return Err(Error::invalid(message));
            }
            _ => return Err(Error::invalid("a URL to post to begins with http:// or https://")),
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(Error::invalid("credentials in a URL end up in messages: leave them out"));
        }
        let uri: ureq::http::Uri = url.parse().map_err(|e| Error::invalid(format!("not a URL: {e}")))?;
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            return Err(Error::invalid("the URL names no host"));
        };
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("attestlog/", env!("CARGO_PKG_VERSION")));
        // The proxy of the environment is for other machines; this machine is reached directly.
        if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
            config = config.proxy(None);
        }
        Ok(Endpoint { url: url.to_owned(), agent: config.build().into(), timeout })
    }

    /// Host and port as written in the URL.
    pub(crate) fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    /// Posts `body` and returns status and body of the answer, whatever the status.
    pub(crate) fn post(&self, content_type: &str, body: &[u8], max: usize) -> Result<(u16, Vec<u8>)> {
        self.post_with(content_type, &[], body, max)
    }

    /// Posts `body` with additional headers.
    pub(crate) fn post_with(
        &self,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        max: usize,
    ) -> Result<(u16, Vec<u8>)> {
        let fail = |e: ureq::Error| {
            let message = match &e {
                ureq::Error::Timeout(_) => format!("no answer from {} after {:?}", self.host(), self.timeout),
                ureq::Error::BodyExceedsLimit(_) => format!("more than {max} bytes from {}", self.host()),
                other => format!("{}: {}", self.host(), super::excerpt(other.to_string().as_bytes())),
            };
            Error::new(ErrorKind::Io, message).with_source(e)
        };
        let request = self.agent.post(&self.url).content_type(content_type);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut answer = request.send(body).map_err(fail)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(max as u64).read_to_vec().map_err(fail)?;
        Ok((status, body))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.url.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{shown}, {:?}", self.timeout)
    }
}
