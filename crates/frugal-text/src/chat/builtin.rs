//! How conversations are written where a checkpoint brings no template.
//!
//! Our own wording of published formats, for GGUF files and folders that lost theirs. Tools are
//! refused, since how they are declared differs between releases of one family; calls and results
//! in a history are written.
//!
//! *Source*: DeepSeek's model cards and the format note of V3.1; ChatML as Qwen uses it; Meta's note
//! on Llama 3.

use crate::tokenizer::Tokenizer;

/// A format of conversations that several families share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// DeepSeek V3, and R1 as first published: the model opens its thinking itself.
    DeepseekV3,
    /// DeepSeek R1 and its distilled models, whose prompt opens the thinking.
    DeepseekR1,
    /// DeepSeek V3.1: thinks where the variable `thinking` (or `enable_thinking`) is true.
    DeepseekV31,
    /// Qwen2, Qwen2.5 and Qwen3; with `enable_thinking` false, the prompt closes the thinking.
    ChatMl,
    /// Llama 3.
    Llama3,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DeepseekV3,
        Self::DeepseekR1,
        Self::DeepseekV31,
        Self::ChatMl,
        Self::Llama3,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeepseekV3 => "deepseek-v3",
            Self::DeepseekR1 => "deepseek-r1",
            Self::DeepseekV31 => "deepseek-v3.1",
            Self::ChatMl => "chatml",
            Self::Llama3 => "llama3",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The one that a tokenizer's control tokens were made for. DeepSeek's releases share a
    /// tokenizer: with `<think>` it is taken for R1's. V3.1 has to be asked for.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let has = |names: &[&str]| names.iter().all(|name| tokenizer.control(name).is_some());
        if has(&["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]) {
            Some(Self::DeepseekR1)
        } else if has(&["<｜User｜>", "<｜Assistant｜>"]) {
            Some(Self::DeepseekV3)
        } else if has(&["<|im_start|>", "<|im_end|>"]) {
            Some(Self::ChatMl)
        } else if has(&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]) {
            Some(Self::Llama3)
        } else {
            None
        }
    }

    /// The template, in Jinja.
    pub fn source(self) -> String {
        let (turns, opening) = match self {
            Self::DeepseekV3 => (DEEPSEEK, "<｜Assistant｜>"),
            Self::DeepseekR1 => (DEEPSEEK, "<｜Assistant｜><think>\\n"),
            Self::DeepseekV31 => (DEEPSEEK_V31, ""),
            Self::ChatMl => (CHAT_ML, ""),
            Self::Llama3 => (LLAMA3, ""),
        };
        [REFUSALS, &turns.replace("OPENING", opening)].concat()
    }

    /// The control tokens that begin a sequence and end an answer, where no file names them.
    pub fn ends(self) -> [&'static str; 2] {
        match self {
            Self::DeepseekV3 | Self::DeepseekR1 | Self::DeepseekV31 => {
                ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
            }
            Self::ChatMl => ["", "<|im_end|>"],
            Self::Llama3 => ["<|begin_of_text|>", "<|eot_id|>"],
        }
    }
}

const REFUSALS: &str = "\
{%- if tools -%}
{{- raise_exception('the builtin template declares no tools; give the checkpoint\\'s own') -}}
{%- endif -%}
{%- for m in messages if m.role not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('expected messages of system, user, assistant or tool, got ' + m.role) -}}
{%- endfor -%}
";

const DEEPSEEK: &str = "\
{%- set ns = namespace(system='', after_results=false) -%}
{%- for m in messages if m.role == 'system' -%}
{%- set ns.system = ns.system + ('' if loop.first else '\\n\\n') + m.content -%}
{%- endfor -%}
{{- bos_token + ns.system -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '<｜User｜>' + m.content -}}
{%- set ns.after_results = false -%}
{%- elif m.role == 'assistant' -%}
{{- '' if ns.after_results else '<｜Assistant｜>' -}}
{{- (m.content or '').split('</think>')[-1] -}}
{%- for call in m.tool_calls or [] -%}
{{- '<｜tool▁calls▁begin｜>' if loop.first else '\\n' -}}
{{- '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + call.function.name + '\\n```json\\n' -}}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments|tojson -}}
{{- '\\n```<｜tool▁call▁end｜>' -}}
{{- '<｜tool▁calls▁end｜>' if loop.last else '' -}}
{%- endfor -%}
{{- '<｜end▁of▁sentence｜>' -}}
{%- set ns.after_results = false -%}
{%- elif m.role == 'tool' -%}
{{- '\\n' if ns.after_results else '<｜tool▁outputs▁begin｜>' -}}
{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<｜tool▁outputs▁end｜>' -}}{%- endif -%}
{%- set ns.after_results = true -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not ns.after_results -%}{{- 'OPENING' -}}{%- endif -%}
";

const DEEPSEEK_V31: &str = "\
{%- set ns = namespace(system='', after_results=false) -%}
{%- for m in messages if m.role == 'system' -%}
{%- set ns.system = ns.system + ('' if loop.first else '\\n\\n') + m.content -%}
{%- endfor -%}
{{- bos_token + ns.system -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '<｜User｜>' + m.content -}}
{%- set ns.after_results = false -%}
{%- elif m.role == 'assistant' -%}
{{- '' if ns.after_results else '<｜Assistant｜></think>' -}}
{{- (m.content or '').split('</think>')[-1] -}}
{%- for call in m.tool_calls or [] -%}
{{- '<｜tool▁calls▁begin｜>' if loop.first else '' -}}
{{- '<｜tool▁call▁begin｜>' + call.function.name + '<｜tool▁sep｜>' -}}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments|tojson -}}
{{- '<｜tool▁call▁end｜>' -}}
{{- '<｜tool▁calls▁end｜>' if loop.last else '' -}}
{%- endfor -%}
{{- '<｜end▁of▁sentence｜>' -}}
{%- set ns.after_results = false -%}
{%- elif m.role == 'tool' -%}
{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}
{%- set ns.after_results = true -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not ns.after_results -%}
{{- '<｜Assistant｜>' -}}
{{- '<think>' if thinking or enable_thinking else '</think>' -}}
{%- endif -%}
";

const CHAT_ML: &str = "\
{%- for m in messages -%}
{%- if m.role == 'tool' or m.tool_calls -%}
{{- raise_exception('the builtin template writes no tool calls; give the checkpoint\\'s own') -}}
{%- endif -%}
{%- set content = m.content or '' -%}
{%- if m.role == 'assistant' and not loop.last and '</think>' in content -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}
";

const LLAMA3: &str = "\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'tool' or m.tool_calls -%}
{{- raise_exception('the builtin template writes no tool calls; give the checkpoint\\'s own') -}}
{%- endif -%}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + (m.content or '')|trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
";
