//! How long a server asks to wait.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

/// Where servers say it. LiteLLM passes its upstream's word on under a name of its own.
const NAMES: [&str; 2] = ["retry-after", "llm_provider-retry-after"];

/// No server means more than this; what says more is an error that may not overflow anything.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// The wait that `headers` ask for.
pub(crate) fn in_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let milliseconds = ["retry-after-ms", "llm_provider-retry-after-ms"].into_iter().find_map(text);
    if let Some(wait) = milliseconds.and_then(|text| text.trim().parse::<f64>().ok()) {
        return seconds(wait / 1_000.0);
    }
    let wait = NAMES.into_iter().find_map(text)?.trim();
    match wait.parse() {
        Ok(number) => seconds(number),
        Err(_) => {
            let until = httpdate::parse_http_date(wait).ok()?;
            let wait = until.duration_since(SystemTime::now()).unwrap_or_default();
            Some(wait.min(LONGEST))
        }
    }
}

/// The wait in a text such as `12.5s`, as Google's APIs have it in the bodies of failures.
pub(super) fn in_text(text: &str) -> Option<Duration> {
    seconds(text.trim().strip_suffix('s')?.parse().ok()?)
}

fn seconds(number: f64) -> Option<Duration> {
    (number >= 0.0).then(|| Duration::try_from_secs_f64(number).unwrap_or(LONGEST).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &'static str, value: &'static str, expected: Option<Duration>) {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(in_headers(&headers), expected);
    }

    #[test]
    fn headers_are_read_in_every_form() {
        check("retry-after", "7", Some(Duration::from_secs(7)));
        check("retry-after", " 1.5 ", Some(Duration::from_millis(1_500)));
        check("retry-after-ms", "250", Some(Duration::from_millis(250)));
        check("llm_provider-retry-after", "9", Some(Duration::from_secs(9)));
        check("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO));
        check("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT", Some(LONGEST));
        for nonsense in ["-1", "soon", "NaN", "", "1e999x"] {
            check("retry-after", nonsense, None);
        }
        check("retry-after", "1e300", Some(LONGEST));
        check("retry-after", "inf", Some(LONGEST));
        check("x-other", "7", None);
    }
}
