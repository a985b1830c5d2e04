//! The texts of keys and their digests.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::KeysError;

/// How every key begins, so that scanners of leaked files know it.
pub(super) const PREFIX: &str = "fr-";
/// Characters that name a key: 62^8, enough that two keys do not meet.
const PART: usize = 8;
/// Characters that are secret: 62^43 is more than 2^256.
const SECRET: usize = 43;
const TEXT: usize = PREFIX.len() + PART + SECRET;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key's text, shown once. It can be had by [`Self::expose`] alone; no log or debug text shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one: its name part and its text.
    pub(super) fn draw() -> Result<(String, Self), KeysError> {
        let part = characters(PART)?;
        let text = format!("{PREFIX}{part}{}", characters(SECRET)?);
        Ok((part, Self(text)))
    }

    /// The text itself, for the one to whom it is given.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

/// What a browser keeps for somebody who has signed in. No log or debug text shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The cookie that holds it.
    pub const COOKIE: &str = "frugal_session";

    /// A new one.
    pub(crate) fn draw() -> Result<Self, KeysError> {
        Ok(Self(characters(SECRET)?))
    }

    /// A text that has the shape of one.
    pub fn read(text: &str) -> Option<Self> {
        let is_whole = text.len() == SECRET && text.bytes().all(|b| b.is_ascii_alphanumeric());
        is_whole.then(|| Self(text.to_owned()))
    }

    /// The text itself, for the browser to which it is given.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// All that is kept of it here.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(..)")
    }
}

/// The part that names a key, of a text that has the shape of one.
pub(crate) fn part_of(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX)?;
    let is_whole = text.len() == TEXT && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_whole.then(|| rest.get(..PART)).flatten()
}

/// Characters of which each is equally likely. A byte from 248 up is drawn again: 248 is 4 * 62.
fn characters(n: usize) -> Result<String, KeysError> {
    let mut text = String::with_capacity(n);
    while text.len() < n {
        let byte = random::<1>()?[0];
        if let Some(digit) = DIGITS.get(usize::from(byte % 62)).filter(|_| byte < 248) {
            text.push(char::from(*digit));
        }
    }
    Ok(text)
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

/// What is kept of a key's text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) salt: [u8; 16],
    pub(super) hash: [u8; 32],
}

impl Sealed {
    /// In place of a key that does not exist. What it is compared with is a digest of anything, and
    /// [`super::Keyring::admit`] does not let in by it even so.
    pub(super) const NONE: Self = Self {
        salt: [0; 16],
        hash: [0; 32],
    };

    pub(super) fn of(secret: &Secret) -> Result<Self, KeysError> {
        let salt = random()?;
        let hash = digest(&salt, &secret.0);
        Ok(Self { salt, hash })
    }

    /// Whether this is the text. The same work for every text: a longer or shorter one is cut or
    /// filled, and is wrong for its length.
    pub(super) fn is_opened_by(&self, text: &str) -> bool {
        let is_equal = digest(&self.salt, text).ct_eq(&self.hash);
        let is_whole = Choice::from(u8::from(text.len() == TEXT));
        (is_equal & is_whole).into()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sealed(..)")
    }
}

fn digest(salt: &[u8; 16], text: &str) -> [u8; 32] {
    #[cfg(test)]
    DIGESTS.with(|count| count.set(count.get() + 1));
    let mut filled = [0; TEXT];
    for (to, from) in filled.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(filled);
    hash.finalize().into()
}

#[cfg(test)]
thread_local! {
    /// Digests made by a test's thread.
    pub(super) static DIGESTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_shape_and_differ() {
        let drawn: Vec<_> = (0..50).map(|_| Secret::draw().unwrap()).collect();
        let mut texts: Vec<_> = drawn.iter().map(|(_, secret)| secret.expose()).collect();
        for (part, secret) in &drawn {
            assert_eq!(secret.expose().len(), 54);
            assert_eq!(part_of(secret.expose()), Some(part.as_str()));
            let sealed = Sealed::of(secret).unwrap();
            assert!(sealed.is_opened_by(secret.expose()));
            let longer = format!("{}x", secret.expose());
            assert!(!sealed.is_opened_by(&longer));
        }
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 50);
        // Every digit turns up among 2,550 characters: each is missing with a chance of e^-41.
        let all: String = texts.concat();
        assert!(DIGITS.iter().all(|digit| all.contains(char::from(*digit))));
    }

    #[test]
    fn other_shapes_name_no_key() {
        let long = "fr-".to_owned() + &"a".repeat(52);
        let odd = "fr-".to_owned() + &"é".repeat(25) + "a";
        for text in ["", "fr-", "sk-none", "fr-12345678", &long, &odd] {
            assert_eq!(part_of(text), None, "{text}");
        }
    }
}
