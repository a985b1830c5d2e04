// What the pictures show: answers as a model of some size gives them, and a store with some models.

const R = String.raw;
export const ANSWERS = {
  root: {
    question: "Why is the square root of 2 irrational? Keep it short.",
    thought: R`The user wants a short proof. The classic one is by contradiction: assume $\sqrt2 = \frac{p}{q}$ in lowest terms.

Then $p^2 = 2q^2$, so $p$ is even, $p = 2k$. Then $4k^2 = 2q^2$, so $q^2 = 2k^2$ and $q$ is even too. That contradicts lowest terms.

Wait, I should say why $p^2$ even means $p$ even: the square of an odd number is odd, $(2m+1)^2 = 2(2m^2+2m)+1$. Good.`,
    answer: R`Suppose it were a fraction in lowest terms, $\sqrt2 = \dfrac{p}{q}$. Squaring gives

$$p^2 = 2q^2 ,$$

so $p^2$ is even, and therefore $p$ is: the square of an odd number is odd. Write $p = 2k$. Then

$$4k^2 = 2q^2 \quad\Longrightarrow\quad q^2 = 2k^2 ,$$

so **$q$ is even as well**. But a fraction in lowest terms does not have both parts even, so there is no such fraction. $\blacksquare$`,
  },
  birthdays: {
    question: "How many people until two share a birthday?",
    thought: "Chance that all differ: 365/365 · 364/365 · … For 23 it falls below one half. Let me check: ln of the product is about −n(n−1)/730. For n = 23 that is −506/730 = −0.693, which is ln ½. So 23.",
    answer: R`**23** are enough for an even chance. All birthdays differ with probability

$$\prod_{i=0}^{n-1}\Bigl(1-\tfrac{i}{365}\Bigr)\approx e^{-n(n-1)/730}.$$

| People | Two share one |
|--:|--:|
| 10 | 12 % |
| 23 | 51 % |
| 40 | 89 % |
| 57 | 99 % |`,
  },
  rust: {
    question: "Reverse the words of a string in Rust",
    thought: "split_whitespace, rev, collect, join. Short.",
    answer: "Split, reverse, join:\n\n```rust\nfn reversed(text: &str) -> String {\n    text.split_whitespace().rev().collect::<Vec<_>>().join(\" \")\n}\n```",
  },
};

const model = (name, more) => ({
  name, served: true, loaded: false, stored: true, managed: true, bytes: 1e9, parameters: 1.5e9, active_parameters: null, quantization: "Q4_K", architecture: "Qwen2ForCausalLM", licence: "mit",
  base_models: [], method: null, origin: null, revision: null, created_at: 1_790_000_000, context: 32_768, card: null, lineage: [{ name, method: null, here: true, teacher: null }], cost: null, forecast: null, measured: null, ...more,
});
export const MODELS = [
  model("deepseek-r1-distill-qwen-1.5b-q4", {
    loaded: true, bytes: 1.12e9, parameters: 1.78e9, base_models: ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"], method: "quantized", origin: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", revision: "ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562", context: 131_072,
    lineage: [
      { name: "Qwen/Qwen2.5-Math-1.5B", method: "pretrained", here: false, teacher: null },
      { name: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", method: "distilled", here: true, teacher: "DeepSeek-R1" },
      { name: "deepseek-r1-distill-qwen-1.5b-q4", method: "quantized", here: true, teacher: null },
    ],
    cost: { flops: 6.2e15, core_seconds: 840, joules: 5900, money: 0.0093, currency: "EUR" },
    forecast: { tokens_per_second: 24.1, prompt_tokens_per_second: 212, memory_bytes: 1.41e9 }, measured: { tokens_per_second: 22.8, at: 1_790_000_000 },
  }),
  model("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", { bytes: 3.55e9, parameters: 1.78e9, quantization: "BF16", base_models: ["Qwen/Qwen2.5-Math-1.5B"], method: "distilled", origin: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", context: 131_072, forecast: { tokens_per_second: 8.9, prompt_tokens_per_second: 96, memory_bytes: 3.9e9 } }),
  model("Qwen/Qwen2.5-0.5B-Instruct", { bytes: 0.53e9, parameters: 0.49e9, quantization: "Q8_0", licence: "apache-2.0", method: "pretrained", measured: { tokens_per_second: 61.3, at: 1_790_000_000 } }),
  model("r1-tiny", { served: false, bytes: 2.9e6, parameters: 1.4e6, quantization: "F32", architecture: "DeepseekV3ForCausalLM", method: "grpo", cost: { flops: 3.1e14, core_seconds: 960, joules: 6700, money: 0.011, currency: "EUR" }, context: 256 }),
  model("r1-tiny-student", { served: false, bytes: 0.9e6, parameters: 0.4e6, quantization: "F32", architecture: "Qwen3ForCausalLM", method: "distilled", context: 256 }),
];
