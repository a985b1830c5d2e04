"""Writes the model that the server is tested with: tiny, of Qwen2's shape, the same every time.

Its weights are random, but not its habits: one dimension of every embedding is constant, and the
head reads a prior from it, so that thoughts, texts and strings come to an end by themselves after
some ten tokens. What it says is babble; that it is the same babble twice, that forms hold and that
numbers add up can be told all the same. Needs nothing but Python's own library.
"""

import json
import pathlib
import random
import struct
import sys

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Added tokens that are not special, as Qwen's are.
MARKUP = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
PAIRS = """t h|th e|i n|e r|a n|r e|o n|e n|a t|o r|e s|i s|i t|n d|Ġ t|Ġ a|Ġ the|Ġ s|Ġ w|Ġ c|in g|Ġ o
Ġo f|an d|Ġa n|Ġ b|Ġ m|o u|l l|Ġ in|Ġ i|Ġ 1|Ġ 2|o m|s e|" :|" ,|: Ġ|u s|e r|a s""".replace("\n", "|")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 64, 2, 4, 2, 96
SEED = 20_240

# Qwen's form of tools; every turn of the assistant begins with a thought, as R1's do, unless
# thinking is switched off.
TEMPLATE = """
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- '# Tools\\n\\nYou may call functions, described within <tools></tools>:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}
{{- '\\n</tools>\\n\\nFor each call return a JSON object within <tool_call></tool_call>:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- set content = message.content if message.content is string else '' %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- if message.reasoning_content is string and loop.last %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{%- if call.function %}{% set call = call.function %}{% endif %}
{%- if content or not loop.first %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{%- if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson }}{% endif %}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""


def byte_letters():
    """How byte-level tokenizers write bytes, by GPT-2's table."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}


def vocabulary():
    letters = byte_letters()
    tokens = [letters[byte] for byte in range(256)]
    merges = [tuple(pair.split(" ")) for pair in dict.fromkeys(PAIRS.split("|"))]
    for left, right in merges:
        assert left in tokens and right in tokens, (left, right)
        tokens.append(left + right)
    return tokens, merges


def tokenizer(tokens, merges):
    added = [
        {
            "id": len(tokens) + place,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": text in CONTROL,
        }
        for place, text in enumerate(CONTROL + MARKUP)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [" ".join(pair) for pair in merges],
        },
    }


def prior(token):
    """How likely a token is before anything else is known, as a logit."""
    if token in CONTROL + MARKUP:
        return {"<|im_end|>": 3.6, "</think>": 3.6, "<tool_call>": 0.5}.get(token, -9.0)
    if token in ('"', "}", "]"):
        return 3.6 if token == '"' else 1.5
    # Written so: control characters, and the space.
    if token in byte_letters().values() and ord(token) >= 256 and token != "Ġ":
        return -5.0
    if all(letter.isascii() and letter.isalnum() or letter == "Ġ" for letter in token):
        return 0.6
    if token.isascii():
        return -1.0
    return -3.5


def bf16(numbers):
    """Rounded to nearest even, as bytes."""
    out = bytearray()
    for number in numbers:
        (bits,) = struct.unpack("<I", struct.pack("<f", number))
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        out += struct.pack("<H", bits)
    return bytes(out)


def weights(names):
    draw = random.Random(SEED)

    def matrix(rows, columns, deviation):
        return [[draw.gauss(0, deviation) for _ in range(columns)] for _ in range(rows)]

    narrow, key_width = WIDTH**-0.5, WIDTH // HEADS * KEY_HEADS
    embedding = matrix(len(names), WIDTH, 1.0)
    for row in embedding:
        row[0] = WIDTH**0.5
    head = matrix(len(names), WIDTH, 1.2 * (WIDTH / 2) ** -0.5)
    for name, row in zip(names, head):
        # The normed constant is about this large at the end of the layers.
        row[0] = prior(name) / (WIDTH / 2) ** 0.5
    ones = [[1.0] * WIDTH]
    all_of_them = {"model.embed_tokens.weight": embedding, "lm_head.weight": head, "model.norm.weight": ones}
    for layer in range(LAYERS):
        parts = {
            "input_layernorm.weight": ones,
            "post_attention_layernorm.weight": ones,
            "self_attn.q_proj.weight": matrix(WIDTH, WIDTH, 2 * narrow),
            "self_attn.q_proj.bias": matrix(1, WIDTH, 0.5),
            "self_attn.k_proj.weight": matrix(key_width, WIDTH, 2 * narrow),
            "self_attn.k_proj.bias": matrix(1, key_width, 0.5),
            "self_attn.v_proj.weight": matrix(key_width, WIDTH, narrow),
            "self_attn.v_proj.bias": matrix(1, key_width, 0.1),
            "self_attn.o_proj.weight": matrix(WIDTH, WIDTH, narrow),
            "mlp.gate_proj.weight": matrix(INNER, WIDTH, narrow),
            "mlp.up_proj.weight": matrix(INNER, WIDTH, narrow),
            "mlp.down_proj.weight": matrix(WIDTH, INNER, INNER**-0.5),
        }
        all_of_them |= {f"model.layers.{layer}.{part}": rows for part, rows in parts.items()}
    return all_of_them


def safetensors(tensors):
    header, data = {}, bytearray()
    for name, rows in tensors.items():
        is_matrix = len(rows) > 1
        begin = len(data)
        data += bf16(number for row in rows for number in row)
        shape = [len(rows), len(rows[0])] if is_matrix else [len(rows[0])]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary()
    names = tokens + CONTROL + MARKUP
    end = names.index("<|im_end|>")
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": len(names),
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": 16_384,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "eos_token_id": end,
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "chat_template": TEMPLATE.strip("\n"),
    }
    generation = {"eos_token_id": [end, names.index("<|endoftext|>")], "temperature": 1.0, "top_p": 1.0}
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer(tokens, merges),
        "tokenizer_config.json": settings,
        "generation_config.json": generation,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    (folder / "model.safetensors").write_bytes(safetensors(weights(names)))


if __name__ == "__main__":
    make(sys.argv[1])
