//! Broken files: whatever they hold, an answer or an error comes back.

use std::sync::LazyLock;

use frugal_model::checkpoint::gguf::Gguf;
use frugal_text::Tokenizer;
use frugal_text::byte_level::letter_of;
use frugal_text::chat::{Conversation, Ending, Template, message};
use frugal_text::gguf::{self, TokenizerKeys};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn vocabulary() -> TokenizerKeys {
    let mut tokens: Vec<String> = (0..=u8::MAX)
        .map(|byte| letter_of(byte).to_string())
        .collect();
    tokens.extend(["th", "Ġth", "<s>", "<think>", "plain one"].map(String::from));
    let mut token_types = vec![1; tokens.len() - 3];
    token_types.extend([3, 4, 4]);
    TokenizerKeys {
        model: "gpt2".into(),
        pre: "qwen2".into(),
        merges: ["t h", "Ġ th"].map(String::from).into(),
        bos: Some(258),
        tokens,
        token_types,
        ..TokenizerKeys::default()
    }
}

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_json(&gguf::tokenizer_json(&vocabulary()).unwrap()).unwrap());

/// Loads a file and, if that goes well, uses it on some text.
fn use_it(file: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(file) else {
        return;
    };
    for text in ["", " the <s>plain one\n", "é\u{301}世界🙂\u{0}", "   "] {
        if let Ok(ids) = tokenizer.encode(text) {
            assert!(ids.iter().all(|id| !tokenizer.is_control(*id)));
            let decoded = tokenizer.decode(&ids).unwrap();
            let mut decoder = tokenizer.decoder();
            let streamed: String = ids
                .iter()
                .map(|id| decoder.push(*id).unwrap().to_string())
                .collect();
            let streamed = streamed + &decoder.finish().unwrap();
            if tokenizer
                .to_json()
                .windows(12)
                .any(|w| w == b"\"ByteLevel\"}")
            {
                assert_eq!(streamed, decoded);
            }
        }
    }
    drop(tokenizer.decode(&[0, 258, 256, 9999]));
    drop(tokenizer.decode(&[0xE4, 258, 0xB8]));
    if let Ok(vocabulary) = gguf::vocabulary(file, None) {
        gguf::tokenizer_json(&vocabulary).unwrap();
    }
}

/// Values that stand where a file has others.
fn intruder() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        " ",
        "▁",
        "t",
        "th",
        "\\p{L}+",
        "(a|a)*b",
        "(",
        "ByteLevel",
        "Regex",
        "Isolated",
        "\u{0}",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0_i64), Just(-1), Just(1), Just(257), Just(i64::MAX)]
            .prop_map(Value::from),
        proptest::sample::select(texts.to_vec()).prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["t", "h"])),
        part(),
    ]
}

/// Parts of the library with odd parameters.
fn part() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (any::<bool>(), any::<bool>()).prop_map(|(a, b)| json!({ "type": "ByteLevel", "add_prefix_space": a, "trim_offsets": b, "use_regex": b })),
        (proptest::sample::select(vec!["String", "Regex"]), "[ a\\\\(|)*+.t^$]{0,6}", proptest::sample::select(vec!["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]), any::<bool>())
            .prop_map(|(kind, pattern, behavior, invert)| json!({ "type": "Split", "pattern": { kind: pattern }, "behavior": behavior, "invert": invert })),
        ("[ a\\\\(|)*+.t^$]{0,6}", "[ at▁]{0,3}").prop_map(|(pattern, content)| json!({ "type": "Replace", "pattern": { "Regex": pattern }, "content": content })),
        ("[ at▁]{0,2}", "[ at▁]{0,2}").prop_map(|(pattern, content)| json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })),
        any::<bool>().prop_map(|v| json!({ "type": "Digits", "individual_digits": v })),
        (proptest::sample::select(vec!["first", "never", "always"]), any::<bool>()).prop_map(|(scheme, split)| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split })),
        (0_u32..3, 0_u32..2).prop_map(|(start, stop)| json!({ "type": "Strip", "content": " ", "start": start, "stop": stop })),
        "[ at▁]{0,2}".prop_map(|prepend| json!({ "type": "Prepend", "prepend": prepend })),
        proptest::sample::select(vec!["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Whitespace", "WhitespaceSplit", "ByteFallback", "Fuse"]).prop_map(|name| json!({ "type": name })),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        let steps = proptest::collection::vec(inner, 0..3);
        (
            proptest::sample::select(vec!["normalizers", "pretokenizers", "decoders"]),
            steps,
        )
            .prop_map(|(name, steps)| json!({ "type": "Sequence", name: steps }))
    })
}

/// Pieces that templates are made of, put together as chance will have it.
fn template() -> impl Strategy<Value = String> {
    let pieces = "{{ ¦}}¦{% ¦%}¦{%- ¦-%}¦{# ¦#}¦for m in messages¦endfor¦if ¦endif¦else¦elif ¦set x = ¦endset¦macro f(a)¦\
        endmacro¦f(¦x¦m.content¦m['role']¦messages[0]¦messages[1:]¦loop.index0¦loop(¦namespace(a=1)¦ns.a¦'<s>'¦'</think>'¦\"<think>\"¦\
        'a'¦0¦-1¦1.5¦10**9¦*¦**¦+¦-¦~¦/¦//¦%¦==¦<¦in¦not ¦and ¦or ¦is defined¦is string¦is mapping¦none¦true¦(¦)¦[¦]¦{'a': ¦}¦,¦.¦:¦\
        trim¦length¦tojson¦tojson(indent=2)¦join(',')¦replace('a', 'b')¦map(attribute='role')¦list¦string¦items¦default('')¦\
        ¦upper¦first¦indent(3)¦format(1)¦|¦batch(2)¦slice(2)¦sort¦unique¦groupby('role')¦\
        x.split('a')¦x.strip()¦x.rfind('b')¦raise_exception('no')¦strftime_now('%Y')¦range(99)¦bos_token¦<s>¦<think>¦text¦\n¦\\\\¦'¦\"¦\u{F0000}¦\
        raw¦endraw¦call f()¦endcall¦filter trim¦endfilter¦recursive¦with a=1¦endwith¦block b¦endblock¦break¦continue¦autoescape true¦do x¦ ";
    let pieces: Vec<&str> = pieces.split('¦').collect();
    let spaced = |pieces: Vec<&str>| pieces.join(" ");
    let statement = proptest::collection::vec(proptest::sample::select(pieces.clone()), 1..8)
        .prop_map(move |inner| format!("{{% {} %}}", spaced(inner)));
    let expression = proptest::collection::vec(proptest::sample::select(pieces.clone()), 1..8)
        .prop_map(move |inner| format!("{{{{ {} }}}}", spaced(inner)));
    let any = proptest::sample::select(pieces).prop_map(str::to_string);
    proptest::collection::vec(prop_oneof![statement, expression, any], 1..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn odd_templates_are_survived(source in template(), content in "[ab<>{%}]{0,6}|<think>a</think>b|<s>") {
        let tokenizer = &*TOKENIZER;
        if let Ok(template) = Template::new(&source, tokenizer, "<s>", "") {
            let messages = [message("user", &content), message("assistant", &content)];
            let rendered = template.render(&Conversation {
                messages: &messages, tools: None, variables: &Map::new(), ending: Ending::AssistantTurn, now: None,
            });
            if let Ok(segments) = rendered {
                tokenizer.encode_segments(&segments).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn flipped_and_cut_files_are_survived(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let mut file = gguf::tokenizer_json(&vocabulary()).unwrap();
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] ^= 1_u8 << bit }
        use_it(&file);
    }

    #[test]
    fn odd_parts_are_survived(normalizer in part(), pre in part(), decoder in part(), which in 0..8) {
        let mut file: Value = serde_json::from_slice(&gguf::tokenizer_json(&vocabulary()).unwrap()).unwrap();
        if which & 1 != 0 { file["normalizer"] = normalizer; }
        if which & 2 != 0 { file["pre_tokenizer"] = pre; }
        if which & 4 != 0 { file["decoder"] = decoder; }
        use_it(file.to_string().as_bytes());
    }

    #[test]
    fn odd_fields_are_survived(field in 0_usize..17, value in intruder()) {
        let mut file: Value = serde_json::from_slice(&gguf::tokenizer_json(&vocabulary()).unwrap()).unwrap();
        let fields = [
            "/model", "/model/type", "/model/vocab", "/model/vocab/t", "/model/merges", "/model/merges/0", "/model/merges/1/0",
            "/model/unk_token", "/model/byte_fallback", "/model/continuing_subword_prefix", "/model/ignore_merges", "/model/fuse_unk",
            "/added_tokens/2/id", "/added_tokens/2/content", "/added_tokens/2/normalized", "/added_tokens/2/single_word", "/added_tokens/2/lstrip",
        ];
        *file.pointer_mut(fields[field]).unwrap() = value;
        use_it(file.to_string().as_bytes());
    }

    #[test]
    fn odd_vocabularies_are_survived(
        tokens in proptest::collection::vec("[a-c<>Ġ \u{0}é]{0,3}", 0..12),
        types in proptest::collection::vec(0_i32..8, 0..12),
        merges in proptest::collection::vec("[a-c ]{0,4}", 0..4),
        ids in proptest::array::uniform2(proptest::option::of(0_u32..300)),
    ) {
        let mut odd = vocabulary();
        odd.tokens.splice(250.., tokens);
        odd.token_types.splice(250.., types);
        odd.merges.extend(merges);
        [odd.bos, odd.pad] = ids;
        if let Ok(file) = gguf::tokenizer_json(&odd) {
            use_it(&file);
            gguf::tokenizer_config_json(&odd).unwrap();
        }
    }
}

/// A file without tensors: version 3, and the keys of a tokenizer.
fn gguf_file(vocabulary: &TokenizerKeys) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([0_u64, 6].iter().flat_map(|n| n.to_le_bytes()));
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    let key = |file: &mut Vec<u8>, name: &str, kinds: &[u32]| {
        text(file, &format!("tokenizer.ggml.{name}"));
        file.extend(kinds.iter().flat_map(|kind| kind.to_le_bytes()));
    };
    for (name, value) in [("model", &vocabulary.model), ("pre", &vocabulary.pre)] {
        key(&mut file, name, &[8]);
        text(&mut file, value);
    }
    for (name, list) in [
        ("tokens", &vocabulary.tokens),
        ("merges", &vocabulary.merges),
    ] {
        key(&mut file, name, &[9, 8]);
        file.extend((list.len() as u64).to_le_bytes());
        for item in list {
            text(&mut file, item);
        }
    }
    key(&mut file, "token_type", &[9, 5]);
    file.extend((vocabulary.token_types.len() as u64).to_le_bytes());
    let types = vocabulary.token_types.iter();
    file.extend(types.flat_map(|kind| kind.to_le_bytes()));
    key(&mut file, "bos_token_id", &[4]);
    file.extend(vocabulary.bos.unwrap_or_default().to_le_bytes());
    file
}

/// Every byte of a GGUF file's tokenizer flipped, and every length: an error that names a place, or a
/// tokenizer of as many tokens, from which no text gets a control token.
#[test]
fn damaged_gguf_tokenizers_are_errors_or_tokenizers() {
    let whole = gguf_file(&vocabulary());
    let keys = |file: Vec<u8>| {
        let keys = Gguf::parse(file.into())?.tokenizer()?;
        Ok::<_, frugal_model::error::Error>(keys)
    };
    assert_eq!(keys(whole.clone()).unwrap().unwrap(), vocabulary());
    let (mut refused, mut absent, mut used) = (0, 0, 0);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        for file in [flipped, whole[..at].to_vec()] {
            match keys(file) {
                Err(error) => {
                    assert!(error.to_string().starts_with("gguf: "), "{at}: {error}");
                    refused += 1;
                }
                // The name of the first key was hit.
                Ok(None) => absent += 1,
                Ok(Some(keys)) => {
                    assert_eq!(keys.tokens.len(), keys.token_types.len());
                    assert_eq!(keys.tokens.len(), vocabulary().tokens.len(), "{at}");
                    // Tokenizers take long to build without optimisation.
                    if at % 64 == 0
                        && let Ok(file) = gguf::tokenizer_json(&keys)
                    {
                        use_it(&file);
                    }
                    used += 1;
                }
            }
        }
    }
    assert!(refused > whole.len(), "{refused} {absent} {used}");
    assert!(used > whole.len() / 8, "{refused} {absent} {used}");
    assert!(absent < 40, "{refused} {absent} {used}");
}

/// Each property in about a second without optimisation.
const CASES: u32 = 150;
