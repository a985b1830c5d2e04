//! A request, whatever dialect it came in.

use serde_json::{Map, Value};

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The model's name, as the client writes it.
    pub model: String,
    /// What it is to continue.
    pub prompt: Prompt,
    /// Answers wanted.
    pub n: usize,
    /// The most tokens of each, thoughts included; as many as fit if none is given.
    pub max_tokens: Option<usize>,
    /// How tokens are drawn.
    pub sampled: Sampled,
    /// Texts that end an answer, and are left out of it.
    pub stop: Vec<String>,
    /// Tokens that end an answer beside the model's own.
    pub stop_ids: Vec<u32>,
    /// Whether the model's own end tokens are passed over.
    pub ignores_end: bool,
    /// Whether and how long it thinks.
    pub thinking: Thinking,
    /// The form of the answer.
    pub form: Form,
    /// Tools it may call.
    pub tools: Tools,
    /// Wants log-probabilities, and of so many likeliest tokens at each place.
    pub likeliest: Option<usize>,
    /// The same for the prompt's tokens.
    pub prompt_likeliest: Option<usize>,
    /// Whether token ids are wanted.
    pub wants_ids: bool,
    /// Wants several answers graded and the best one given.
    pub verify: Option<Verify>,
    /// Whom the client serves: prompts begin alike only among the same.
    pub user: Option<String>,
}

impl Ask {
    /// For one answer, of which only this is known.
    pub fn of(model: String, prompt: Prompt) -> Self {
        Self {
            model,
            prompt,
            n: 1,
            max_tokens: None,
            sampled: Sampled::usual(),
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignores_end: false,
            thinking: Thinking::Usual,
            form: Form::Free,
            tools: Tools::default(),
            likeliest: None,
            prompt_likeliest: None,
            wants_ids: false,
            verify: None,
            user: None,
        }
    }
}

/// What a model is to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation.
    Chat {
        /// Messages as OpenAI's API writes them, checked: `role`, `content` as a string or null,
        /// `reasoning_content`, `tool_calls`, `tool_call_id`, `name`.
        messages: Vec<Value>,
        /// Variables of the template that the client set (`chat_template_kwargs`), beside those that
        /// follow from `thinking`.
        variables: Map<String, Value>,
        /// Whether the last message, the assistant's, is to be continued rather than answered.
        continues_last: bool,
        /// Whether the assistant's turn is opened after the last message.
        opens_turn: bool,
    },
    /// A text, with the model's first token before it where it has one.
    Text(String),
    /// Token ids, as they are.
    Ids(Vec<u32>),
    /// What stands between two texts, for models with tokens for that.
    Middle {
        /// What stands before it.
        prefix: String,
        /// What stands after it.
        suffix: String,
    },
}

/// How tokens are drawn; what is not given is as the model's makers say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampled {
    /// 0 to 2.
    pub temperature: Option<f32>,
    /// 0 to 1.
    pub top_p: Option<f32>,
    /// 0 keeps all.
    pub top_k: Option<usize>,
    /// 0 to 1.
    pub min_p: Option<f32>,
    /// -2 to 2, off the logit of each token that has occurred in the answer.
    pub presence_penalty: f32,
    /// -2 to 2, off the logit for each time it has.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and answer; 1 does nothing.
    pub repetition_penalty: f32,
    /// Added to logits, -100 to 100: -100 forbids.
    pub bias: Vec<(u32, f32)>,
    /// Names the random numbers; drawn for each request if none is given.
    pub seed: Option<u64>,
}

impl Sampled {
    /// As the model's makers say.
    pub fn usual() -> Self {
        Self {
            repetition_penalty: 1.0,
            ..Self::default()
        }
    }
}

/// Whether and how long the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinking {
    /// As its template does.
    #[default]
    Usual,
    /// Not at all.
    Off,
    /// At all events, within so many tokens if a budget is given.
    On {
        /// Tokens of the thought.
        budget: Option<usize>,
    },
}

/// The form of the answer. Thoughts are free.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Form {
    /// Any text.
    #[default]
    Free,
    /// A JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema(Value),
    /// A text of a regular expression.
    Regex(String),
    /// A grammar in Lark's notation.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// Tools and which of them may be called.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tools {
    /// As OpenAI's API writes them: `{"type": "function", "function": {"name", "description",
    /// "parameters", "strict"}}`, checked.
    pub tools: Vec<Value>,
    /// Which.
    pub choice: ToolChoice,
    /// Whether several may be called in one answer.
    pub is_parallel: bool,
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one of all, or of those named.
    Required(Option<Vec<String>>),
    /// As the model likes, of those named.
    AutoOf(Vec<String>),
}

/// Several answers, graded.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// How many are drawn.
    pub samples: usize,
    /// Who grades.
    pub checker: Check,
}

/// Who grades.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A vote among final answers.
    Majority,
    /// A vote among final answers that are numbers or formulas.
    Math,
    /// Answers that are JSON (of the schema, where one is given) count; a vote among them.
    Json,
    /// A task of the checker by name, with what it grades against.
    Task {
        /// Its name.
        name: String,
        /// The question's reference.
        reference: Value,
    },
}

/// What an [`Ask`] may hold; checked before anything is allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Answers of a request.
    pub n: usize,
    /// Stop texts.
    pub stops: usize,
    /// Bytes of one.
    pub stop_bytes: usize,
    /// Tools.
    pub tools: usize,
    /// Bytes of a schema, regular expression or grammar.
    pub schema_bytes: usize,
    /// Nesting of any JSON in a request.
    pub depth: usize,
    /// Tokens with a bias.
    pub biases: usize,
    /// Likeliest tokens at a place.
    pub likeliest: usize,
    /// Samples of a verified answer.
    pub verify_samples: usize,
    /// Prompts of a completions request.
    pub prompts: usize,
    /// Tokens of a thought by effort: minimal, low, medium, high, xhigh.
    pub efforts: [usize; 5],
}

impl Limits {
    /// What is usual.
    pub const USUAL: Self = Self {
        body_bytes: 16 << 20,
        messages: 4096,
        n: 128,
        stops: 16,
        stop_bytes: 256,
        tools: 128,
        schema_bytes: 64 << 10,
        depth: 32,
        biases: 1024,
        likeliest: 20,
        verify_samples: 64,
        prompts: 64,
        // Each step is four times the one before it.
        efforts: [512, 2_048, 8_192, 32_768, 131_072],
    };
}
