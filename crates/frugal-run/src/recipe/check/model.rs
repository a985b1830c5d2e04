//! Whether a shape can be built.

use super::place::{At, Checked};
use crate::recipe::ModelShape;

/// Largest width or count of a model shape: above any published one, far below overflow.
const MAX_WIDTH: u32 = 1 << 20;

/// Checks that a shape can be built.
pub(super) fn model(at: At<'_>, shape: &ModelShape) -> Checked {
    for (field, width) in [
        ("hidden_size", shape.hidden_size),
        ("num_hidden_layers", shape.num_hidden_layers),
        ("num_attention_heads", shape.num_attention_heads),
        ("num_key_value_heads", shape.num_key_value_heads),
        ("intermediate_size", shape.intermediate_size),
        ("max_position_embeddings", shape.max_position_embeddings),
    ] {
        at.within(field, width, 1, MAX_WIDTH)?;
    }
    at.above_zero("rope_theta", shape.rope_theta)?;
    at.above_zero("rms_norm_eps", shape.rms_norm_eps)?;
    at.not_negative("initializer_range", shape.initializer_range)?;
    if shape.architecture.is_mla() {
        latent_attention(at, shape)?;
    } else {
        grouped(at, shape)?;
    }
    experts(at, shape)
}

fn latent_attention(at: At<'_>, shape: &ModelShape) -> Checked {
    for (field, width) in [
        ("kv_lora_rank", shape.kv_lora_rank),
        ("qk_nope_head_dim", shape.qk_nope_head_dim),
        ("qk_rope_head_dim", shape.qk_rope_head_dim),
        ("v_head_dim", shape.v_head_dim),
    ] {
        at.within(field, width, 1, MAX_WIDTH)?;
    }
    at.within("q_lora_rank", shape.q_lora_rank, 0, MAX_WIDTH)?;
    at.even("qk_rope_head_dim", shape.qk_rope_head_dim)?;
    let (kv, heads) = (shape.num_key_value_heads, shape.num_attention_heads);
    if kv != heads {
        return at.refuse(format!(
            "under MLA num_key_value_heads is num_attention_heads, expected {heads}, got {kv}"
        ));
    }
    Ok(())
}

fn grouped(at: At<'_>, shape: &ModelShape) -> Checked {
    let (kv, heads) = (shape.num_key_value_heads, shape.num_attention_heads);
    if !heads.is_multiple_of(kv) {
        return at.refuse(format!(
            "num_attention_heads {heads} is not a multiple of num_key_value_heads {kv}"
        ));
    }
    at.within("head_dim", shape.head_dim, 0, MAX_WIDTH)?;
    if shape.head_dim == 0 && !shape.hidden_size.is_multiple_of(heads) {
        return at.refuse(format!(
            "hidden_size {} does not divide into {heads} heads; set head_dim or change one",
            shape.hidden_size
        ));
    }
    at.even("head_dim", shape.resolved_head_dim())?;
    for (field, value) in [
        ("n_routed_experts", shape.n_routed_experts),
        ("num_nextn_predict_layers", shape.num_nextn_predict_layers),
        ("kv_lora_rank", shape.kv_lora_rank),
        ("q_lora_rank", shape.q_lora_rank),
    ] {
        if value != 0 {
            return at.refuse(format!(
                "this architecture has no {field}, expected 0, got {value}"
            ));
        }
    }
    Ok(())
}

fn experts(at: At<'_>, shape: &ModelShape) -> Checked {
    let (experts, groups) = (shape.n_routed_experts, shape.n_group);
    if experts == 0 {
        return Ok(());
    }
    at.within("n_routed_experts", experts, 1, MAX_WIDTH)?;
    at.within("n_shared_experts", shape.n_shared_experts, 0, MAX_WIDTH)?;
    at.within(
        "moe_intermediate_size",
        shape.moe_intermediate_size,
        1,
        MAX_WIDTH,
    )?;
    at.within("n_group", groups, 1, experts)?;
    at.within("topk_group", shape.topk_group, 1, groups)?;
    at.within(
        "first_k_dense_replace",
        shape.first_k_dense_replace,
        0,
        shape.num_hidden_layers,
    )?;
    at.within(
        "num_nextn_predict_layers",
        shape.num_nextn_predict_layers,
        0,
        1,
    )?;
    at.above_zero("routed_scaling_factor", shape.routed_scaling_factor)?;
    if !experts.is_multiple_of(groups) {
        return at.refuse(format!(
            "n_routed_experts {experts} do not divide into n_group {groups} groups"
        ));
    }
    let per_group = experts / groups;
    if groups > 1 && per_group < 2 {
        return at.refuse(format!(
            "a group is scored by its two best experts, but {experts} experts / {groups} groups = \
             {per_group}"
        ));
    }
    let reachable = u64::from(per_group) * u64::from(shape.topk_group);
    let per_token = shape.num_experts_per_tok;
    if per_token == 0 || u64::from(per_token) > reachable {
        return at.refuse(format!(
            "num_experts_per_tok must be 1 to {reachable} ({experts} experts / {groups} groups x \
             {} groups in reach), got {per_token}",
            shape.topk_group
        ));
    }
    Ok(())
}
