"""Writes a checkpoint with random weights in a published shape and format, by transformers.

    python make.py qwen2-1.5b OUT          # the shape of Qwen2-1.5B, bf16, about 3 GB
    python make.py deepseek-v3-1b OUT      # V3's structure with about 1B parameters, FP8 blocks
    python make.py tiny-qwen2 OUT          # the same structure, small, for a quick look

What is written is what the hub has: `config.json`, sharded safetensors with their index, in FP8 as
e4m3 with one f32 factor for each 128x128 block. Nothing of it is committed.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SHAPES = {
    "qwen2-1.5b": dict(
        model_type="qwen2", architectures=["Qwen2ForCausalLM"], vocab_size=151936, hidden_size=1536,
        intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1e6,
        rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=151643, eos_token_id=151645,
    ),
    "tiny-qwen2": dict(
        model_type="qwen2", architectures=["Qwen2ForCausalLM"], vocab_size=4096, hidden_size=256,
        intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, rope_theta=1e6,
        rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    ),
    "deepseek-v3-1b": dict(
        model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], vocab_size=129280,
        hidden_size=1024, intermediate_size=4096, moe_intermediate_size=512, num_hidden_layers=12,
        num_attention_heads=16, num_key_value_heads=16, n_shared_experts=1, n_routed_experts=32,
        routed_scaling_factor=2.5, kv_lora_rank=256, q_lora_rank=512, qk_rope_head_dim=64,
        v_head_dim=128, qk_nope_head_dim=128, n_group=8, topk_group=4, num_experts_per_tok=4,
        first_k_dense_replace=1, norm_topk_prob=True, max_position_embeddings=4096,
        rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=False, bos_token_id=0,
        eos_token_id=1, num_nextn_predict_layers=0,
    ),
}
SHARD_BYTES = 1 << 30
BLOCK = 128


def fp8_blocks(weight):
    """e4m3 bytes and the factor of each block, and the numbers they stand for."""
    rows, cols = weight.shape
    down, across = math.ceil(rows / BLOCK), math.ceil(cols / BLOCK)
    padded = torch.zeros(down * BLOCK, across * BLOCK)
    padded[:rows, :cols] = weight.float()
    blocks = padded.view(down, BLOCK, across, BLOCK)
    scales = blocks.abs().amax(dim=(1, 3)).clamp(min=1e-12) / 448.0
    bytes_ = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    plain = (bytes_.float() * scales[:, None, :, None]).reshape(padded.shape)[:rows, :cols]
    return bytes_.reshape(padded.shape)[:rows, :cols].contiguous(), scales, plain.contiguous()


def is_fp8(name):
    kept = ("embed_tokens", "lm_head", "norm", "mlp.gate.", "e_score_correction_bias", "eh_proj")
    return name.endswith(".weight") and not any(part in name for part in kept)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shape = dict(SHAPES[arguments.shape])
    torch.manual_seed(arguments.seed)
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    config.dtype = torch.bfloat16
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms and biases away from their starting values, so that a forgotten one shows.
            if "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif name.endswith(".bias"):
                parameter.normal_(0.0, 0.02)
    is_v3 = arguments.shape.startswith("deepseek")
    tensors = {}
    for name, tensor in expand_experts(model.state_dict()).items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if is_v3 and is_fp8(name):
            tensors[name], tensors[name + "_scale_inv"], _ = fp8_blocks(tensor)
        elif name.endswith("e_score_correction_bias"):
            tensors[name] = 0.01 * torch.randn_like(tensor)
        else:
            tensors[name] = tensor.to(torch.bfloat16)
    save(tensors, arguments.out)
    published = {**SHAPES[arguments.shape], "torch_dtype": "bfloat16", "hidden_act": "silu"}
    if is_v3:
        published |= dict(
            scoring_func="sigmoid", topk_method="noaux_tc",
            quantization_config=dict(
                activation_scheme="dynamic", fmt="e4m3", quant_method="fp8",
                weight_block_size=[BLOCK, BLOCK],
            ),
        )
    (arguments.out / "config.json").write_text(json.dumps(published, indent=2))
    print(sum(t.numel() for t in tensors.values()), "numbers in", arguments.out)


def expand_experts(state):
    """transformers 5 holds the experts of a layer in two stacks; files have a tensor each."""
    out = {}
    for name, tensor in state.items():
        if name.endswith(".mlp.experts.gate_up_proj"):
            base = name.removesuffix("gate_up_proj")
            for index, both in enumerate(tensor):
                gate, up = both.chunk(2, dim=0)
                out[f"{base}{index}.gate_proj.weight"] = gate
                out[f"{base}{index}.up_proj.weight"] = up
        elif name.endswith(".mlp.experts.down_proj"):
            base = name.removesuffix("down_proj")
            for index, down in enumerate(tensor):
                out[f"{base}{index}.down_proj.weight"] = down
        else:
            out[name] = tensor
    return out


def save(tensors, folder):
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if size + bytes_ > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += bytes_
    weight_map = {}
    for index, shard in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    # As in the published index, the size is not that of the files.
    elements = sum(t.numel() for t in tensors.values())
    index = {"metadata": {"total_size": 2 * elements}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
