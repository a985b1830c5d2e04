//! Server-sent events out of bytes, however they were cut.
//!
//! The rules of the HTML standard, with two departures: text that is not UTF-8 is an error rather
//! than repaired, and an event without data is given out too where it has a name, because whoever
//! judges a server wants to see it.

use super::Error;

/// Bytes of one event at most.
const MOST: usize = 16 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its `event:` field, where there is one.
    pub name: Option<String>,
    /// Its `data:` lines, joined by line feeds.
    pub data: String,
    /// When its last byte was there, in seconds since the request began.
    pub seconds: f64,
}

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    had_return: bool,
    name: Option<String>,
    data: Option<String>,
    n_comments: usize,
}

impl Events {
    /// Takes bytes that came at a moment; adds the events they complete.
    ///
    /// # Errors
    /// If a line is not UTF-8, or an event too long.
    pub fn take(
        &mut self,
        bytes: &[u8],
        seconds: f64,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        for &byte in bytes {
            let follows_return = std::mem::take(&mut self.had_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.had_return = byte == b'\r';
                    events.extend(self.end_line(seconds)?);
                }
                _ => self.line.push(byte),
            }
        }
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held > MOST {
            return Err(Error::TooLong { most: MOST });
        }
        Ok(())
    }

    /// Comments so far: servers send them to keep a connection alive.
    pub const fn n_comments(&self) -> usize {
        self.n_comments
    }

    /// Whether something was begun and not ended.
    pub const fn is_within(&self) -> bool {
        !self.line.is_empty() || self.data.is_some() || self.name.is_some()
    }

    fn end_line(&mut self, seconds: f64) -> Result<Option<Event>, Error> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| Error::NotText)?;
        if line.is_empty() {
            return Ok(self.end_event(seconds));
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.n_comments += 1,
            "event" => self.name = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // The standard has readers pass over fields they do not know.
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self, seconds: f64) -> Option<Event> {
        let (name, data) = (self.name.take(), self.data.take());
        if name.is_none() && data.is_none() {
            return None;
        }
        Some(Event {
            name,
            data: data.unwrap_or_default(),
            seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let mut reader = Events::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.take(piece, 0.0, &mut events).unwrap();
        }
        let pair = |event: Event| (event.name, event.data);
        events.into_iter().map(pair).collect()
    }

    #[test]
    fn events_are_read_by_the_standard() {
        let cases: [(&str, &[(Option<&str>, &str)]); 6] = [
            ("data: a\n\n", &[(None, "a")]),
            ("data:a\r\n\r\ndata:  b\r\r", &[(None, "a"), (None, " b")]),
            (
                "event: ping\ndata: {}\n\n: here\n\n",
                &[(Some("ping"), "{}")],
            ),
            ("data: a\ndata: b\n\n", &[(None, "a\nb")]),
            ("id: 3\nretry: 9\n\ndata\n\n", &[(None, "")]),
            ("data: unended\n", &[]),
        ];
        for (bytes, expected) in cases {
            let expected: Vec<_> = (expected.iter())
                .map(|(name, data)| (name.map(ToOwned::to_owned), (*data).to_owned()))
                .collect();
            assert_eq!(events(&[bytes.as_bytes()]), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_an_error() {
        let mut reader = Events::default();
        let taken = reader.take(b"data: \xff\n", 0.0, &mut Vec::new());
        assert!(matches!(taken, Err(Error::NotText)), "{taken:?}");
    }

    proptest! {
        #[test]
        fn where_bytes_are_cut_does_not_matter(cuts in proptest::collection::vec(0_usize..44, 0..6)) {
            let bytes = "data: é\r\ndata: 2\r\n\r\n: c\nevent: e\ndata: 3\n\n".as_bytes();
            let mut cuts = cuts;
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[bytes]));
        }
    }
}
