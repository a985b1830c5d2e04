//! Every route is described in `openapi.json`, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::server::{Readiness, Shutdown, health_routes};

/// Paths with their methods, as a router shows itself: routes by number, then paths by number.
fn shown(router: &str) -> BTreeSet<String> {
    let (router, _) = router.split_once("fallback_router:").unwrap();
    let (routes, paths) = router.split_once("node: Node").unwrap();
    let numbered = |part: &str| -> BTreeMap<usize, String> {
        let entries = part.split("RouteId(").skip(1).map(|entry| {
            let (number, rest) = entry.split_once(')').unwrap();
            (number.parse().unwrap(), rest.to_owned())
        });
        entries.collect()
    };
    let (routes, paths) = (numbered(routes), numbered(paths));
    assert_eq!(routes.len(), paths.len());
    let all = routes.iter().flat_map(|(number, route)| {
        let path = paths[number].split('"').nth(1).unwrap().replace("{*", "{");
        let known = ["get", "post", "put", "patch", "delete"].into_iter();
        known
            .filter(|method| !route.contains(&format!("{method}: None")))
            .map(move |method| format!("{method} {path}"))
    });
    all.collect()
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let health = health_routes(Readiness::loading(&Shutdown::new()));
    let routers = [
        format!("{:?}", Front::keyed_routes()),
        format!("{:?}", Front::open_routes()),
        format!("{:?}", Front::metrics_routes()),
        format!("{health:?}"),
    ];
    let served: BTreeSet<String> = routers.iter().flat_map(|router| shown(router)).collect();
    let document: Value = serde_json::from_str(operate::OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let described: BTreeSet<String> = paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(served, described);
}
