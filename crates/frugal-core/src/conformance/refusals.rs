//! What every back-end refuses with an error instead of reading past the end.

use super::{Draw, Suite};
use crate::backend::{
    Attention, Context, GroupScore, Head, Keys, Linear, Pages, Product, RopeColumns, RopePairs,
    Route, Router, Sampling, Scoring, TrainBackend,
};
use crate::dtype::Data;
use crate::error::Result;
use crate::shape::{Rows, Shape};

pub(super) fn all<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    // The cases are fixed; one pass is enough.
    if draw.index() > 0 {
        return Ok(());
    }
    shapes(s)?;
    routes(s)?;
    attentions(s)
}

fn shapes<B: TrainBackend>(s: &mut Suite<'_, B>) -> Result<()> {
    let b = s.backend;
    let x = b.zeros(Shape::matrix(2, 3))?;
    let narrow = b.zeros(Shape::matrix(4, 2))?;
    let weight = b.zeros(Shape::matrix(4, 3))?;
    let vector = b.zeros(Shape::vector(3))?;
    let layer = |weight| Linear {
        weight,
        bias: None,
        product: Product::Policy,
    };
    s.refused(
        "put of too few",
        &b.put(Shape::matrix(2, 2), Data::F32(&[1.0])),
    );
    let huge = Shape::matrix(usize::MAX, 2);
    s.refused("put of too large", &b.put(huge, Data::F32(&[1.0, 2.0])));
    s.refused("zeros of too large", &b.zeros(huge));
    s.refused("linear", &b.linear(&x, layer(&narrow)));
    let with_bias = Linear {
        bias: Some(&vector),
        ..layer(&weight)
    };
    s.refused("bias", &b.linear(&x, with_bias));
    s.refused("gather", &b.gather(&x, &[0, 2]));
    s.refused("rms_norm", &b.rms_norm(&narrow, &vector, 1e-6));
    s.refused("swiglu", &b.swiglu(&x, &weight));
    s.refused("add", &b.add(&x, &weight));
    s.refused("split", &b.split(&x, 1, &[1, 1]));
    s.refused("join", &b.join(&[&x, &weight], 1));
    s.refused("join of nothing", &b.join(&[], 1));
    let columns = RopeColumns {
        n_heads: 1,
        head_width: 3,
        offset: 1,
        width: 2,
        pairs: RopePairs::Halves,
    };
    s.refused("rope position", &b.rope(&x, &narrow, &[0, 4], columns));
    s.refused("rope count", &b.rope(&x, &narrow, &[0], columns));
    let head = Head {
        hidden: &x,
        weight: &weight,
    };
    s.refused("target", &b.log_prob(head, &[0, 4], 1.0));
    s.refused("temperature", &b.log_prob(head, &[0, 1], 0.0));
    s.refused("uniform", &b.pick(&x, &Sampling::PLAIN, &[0.5, 1.0]));
    s.refused("uniforms", &b.pick(&x, &Sampling::PLAIN, &[0.5]));
    let mut store = b.zeros(Shape::matrix(2, 3))?;
    let append = b.append(&mut store, &x, &[0, 2]);
    s.refused("append", &append);
    let copy = b.copy_rows(&mut store, &[0], &[2]);
    s.refused("copy_rows", &copy);
    let accumulate = b.accumulate(&mut store, &weight);
    s.refused("accumulate", &accumulate);
    Ok(())
}

fn routes<B: TrainBackend>(s: &mut Suite<'_, B>) -> Result<()> {
    let b = s.backend;
    let logits = b.zeros(Shape::matrix(2, 4))?;
    let router = Router {
        top_k: 1,
        n_group: 2,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::Max,
        normalise: true,
        scale: 1.0,
    };
    let route = b.route(&logits, None, &router)?;
    for (what, router) in [
        ("too many experts", Router { top_k: 3, ..router }),
        ("no expert", Router { top_k: 0, ..router }),
        (
            "uneven groups",
            Router {
                n_group: 3,
                ..router
            },
        ),
        (
            "too many groups",
            Router {
                topk_group: 3,
                ..router
            },
        ),
    ] {
        s.refused(what, &b.route(&logits, None, &router));
    }
    let slots = b.zeros(Shape::matrix(2, 3))?;
    let rows = b.zeros(Shape::matrix(3, 3))?;
    s.refused("dispatch", &b.dispatch(&rows, &route));
    s.refused("combine", &b.combine(&rows, &route));
    let few = b.zeros(Shape::stack(3, 2, 3))?;
    s.refused(
        "experts in the weight",
        &b.grouped_linear(&slots, &few, &route),
    );
    let weight = b.zeros(Shape::stack(4, 2, 3))?;
    // Made by hand: shapes fit, indices do not.
    for (what, order, offsets) in [
        ("slot out of range", [0, 9], [0, 1, 2, 2, 2]),
        ("slot served twice", [1, 1], [0, 1, 2, 2, 2]),
        ("offsets that fall", [0, 1], [0, 2, 1, 2, 2]),
        ("offsets past the end", [0, 1], [0, 1, 2, 2, 9]),
    ] {
        let route = Route {
            order: b.put_indices(&order)?,
            offsets: b.put_indices(&offsets)?,
            ..route.clone()
        };
        s.refused(what, &b.grouped_linear(&slots, &weight, &route));
        s.refused(what, &b.combine(&slots, &route));
    }
    Ok(())
}

fn attentions<B: TrainBackend>(s: &mut Suite<'_, B>) -> Result<()> {
    let b = s.backend;
    let q = b.zeros(Shape::matrix(2, 4))?;
    let store = b.zeros(Shape::matrix(4, 4))?;
    let rows = Rows::packed(&[2])?;
    let pages = Pages {
        page_rows: 2,
        tables: alloc::vec![alloc::vec![1]],
        lengths: alloc::vec![2],
    };
    let packed = Attention {
        n_heads: 1,
        scale: 1.0,
        rows: &rows,
        context: Context::Packed,
    };
    let latent = |latent, rank| Keys::Latent { latent, rank };
    s.refused(
        "keys of other rows",
        &b.attention(&q, latent(&store, 4), &packed),
    );
    s.refused("rank", &b.attention(&q, latent(&q, 5), &packed));
    s.refused(
        "latent training",
        &b.attention_saved(&q, latent(&q, 4), &packed),
    );
    let grouped = |n_kv_heads| Keys::Grouped {
        k: &q,
        v: &q,
        n_kv_heads,
    };
    s.refused("key heads", &b.attention(&q, grouped(0), &packed));
    b.attention(&q, latent(&store, 4), &paged(packed, &pages))?;
    let lying = [
        ("page out of range", alloc::vec![alloc::vec![2]], 2),
        ("too few pages", alloc::vec![alloc::vec![1]], 3),
        ("no table", alloc::vec![], 2),
    ];
    for (what, tables, length) in lying {
        let pages = Pages {
            tables,
            lengths: alloc::vec![length],
            ..pages.clone()
        };
        let result = b.attention(&q, latent(&store, 4), &paged(packed, &pages));
        s.refused(what, &result);
    }
    Ok(())
}

fn paged<'a>(packed: Attention<'a>, pages: &'a Pages) -> Attention<'a> {
    Attention {
        context: Context::Paged(pages),
        ..packed
    }
}
