//! The tokenizer's keys out of a GGUF file, read just well enough for a test.

use std::collections::BTreeMap;

use frugal_text::gguf::GgufVocabulary;

#[derive(Debug)]
enum Item {
    Number(u64),
    Text(String),
    List(Vec<Item>),
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn number(&mut self, n: usize) -> u64 {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn text(&mut self) -> String {
        let n = usize::try_from(self.number(8)).unwrap();
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        String::from_utf8(taken.to_vec()).unwrap()
    }

    fn item(&mut self, kind: u64) -> Item {
        match kind {
            0 | 1 | 7 => Item::Number(self.number(1)),
            2 | 3 => Item::Number(self.number(2)),
            4..=6 => Item::Number(self.number(4)),
            8 => Item::Text(self.text()),
            9 => {
                let kind = self.number(4);
                let n = self.number(8);
                Item::List((0..n).map(|_| self.item(kind)).collect())
            }
            _ => Item::Number(self.number(8)),
        }
    }
}

pub(super) fn read(file: &[u8]) -> GgufVocabulary {
    let mut bytes = Bytes(file);
    assert_eq!((bytes.number(4), bytes.number(4)), (0x4655_4747, 3));
    bytes.number(8);
    let mut keys = BTreeMap::new();
    for _ in 0..bytes.number(8) {
        let key = bytes.text();
        let kind = bytes.number(4);
        keys.insert(key, bytes.item(kind));
    }
    let mut key = |name: &str| keys.remove(&format!("tokenizer.ggml.{name}"));
    let text = |item| {
        let Some(Item::Text(text)) = item else {
            unreachable!("{item:?} is no text")
        };
        text
    };
    let list = |item| {
        let Some(Item::List(items)) = item else {
            unreachable!("{item:?} is no list")
        };
        items
    };
    let number = |item| {
        let Some(Item::Number(number)) = item else {
            unreachable!("{item:?} is no number")
        };
        u32::try_from(number).unwrap()
    };
    GgufVocabulary {
        model: text(key("model")),
        pre: text(key("pre")),
        tokens: list(key("tokens"))
            .into_iter()
            .map(|item| text(Some(item)))
            .collect(),
        token_types: list(key("token_type"))
            .into_iter()
            .map(|item| number(Some(item)).cast_signed())
            .collect(),
        merges: list(key("merges"))
            .into_iter()
            .map(|item| text(Some(item)))
            .collect(),
        bos: Some(number(key("bos_token_id"))),
        eos: Some(number(key("eos_token_id"))),
        pad: Some(number(key("padding_token_id"))),
        unk: None,
        add_bos: Some(number(key("add_bos_token")) != 0),
        chat_template: None,
    }
}
