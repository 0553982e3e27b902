//! Translates names of tensors: from Hugging Face's, which the rest of the crate uses, to llama.cpp's.

use crate::config::{EMBEDDING, HEAD};

/// llama.cpp's name of a module, without `.weight` or `.bias`.
///
/// `post_norms` says which of two meanings `post_attention_layernorm` has: the norm after
/// attention (Gemma 3), or the one before the feed-forward (all others).
pub(crate) fn gguf_name(module: &str, post_norms: bool) -> Option<String> {
    match module {
        EMBEDDING => return Some("token_embd".into()),
        HEAD => return Some("output".into()),
        "model.norm" => return Some("output_norm".into()),
        _ => {}
    }
    let (layer, part) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let name = match part {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if post_norms => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{name}"))
}

/// The row of a `llama` file that holds row `row` of a query or key projection.
///
/// Those files interleave the two halves of each head: row 2i is row i of the first half, row 2i + 1 is
/// row i of the second.
pub(crate) const fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, in_head) = (row / head_dim, row % head_dim);
    let (half, i) = (in_head / (head_dim / 2), in_head % (head_dim / 2));
    head * head_dim + 2 * i + half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_norms_of_gemma_have_names_of_their_own() {
        let name = |part: &str, post| gguf_name(&format!("model.layers.7.{part}"), post).unwrap();
        assert_eq!(name("post_attention_layernorm", false), "blk.7.ffn_norm");
        assert_eq!(
            name("post_attention_layernorm", true),
            "blk.7.post_attention_norm"
        );
        assert_eq!(name("pre_feedforward_layernorm", true), "blk.7.ffn_norm");
        assert_eq!(
            name("post_feedforward_layernorm", true),
            "blk.7.post_ffw_norm"
        );
        assert_eq!(gguf_name("model.layers.7", true), None);
        assert_eq!(gguf_name("else", true), None);
    }

    #[test]
    fn halves_of_a_head_are_taken_apart() {
        let rows: Vec<usize> = (0..8).map(|r| interleaved_row(r, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
