//! Every route is described in `openapi.json`, and nothing else is.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::server::{Readiness, Shutdown, health_routes};

/// Paths with their methods, as a router shows itself: routes in order, and the paths by number.
fn shown(router: &str) -> BTreeSet<String> {
    let (routes, paths) = router.split_once("node: Node").unwrap();
    let paths = paths.split_once('}').map_or(paths, |(paths, _)| paths);
    let paths: Vec<(usize, &str)> = paths
        .split("RouteId(")
        .skip(1)
        .map(|entry| {
            let (number, rest) = entry.split_once(')').unwrap();
            let path = rest.split('"').nth(1).unwrap();
            (number.parse().unwrap(), path)
        })
        .collect();
    let methods = |route: &str| {
        let is_there = |method: &&str| !route.contains(&format!("{method}: None"));
        let known = ["get", "post", "put", "patch", "delete"];
        known.into_iter().filter(is_there).collect::<Vec<_>>()
    };
    let routes: Vec<_> = routes.split("MethodRouter {").skip(1).map(methods).collect();
    assert_eq!(routes.len(), paths.len());
    let all = paths.iter().flat_map(|(number, path)| {
        let path = path.replace("{*", "{");
        routes[*number].iter().map(move |method| format!("{method} {path}"))
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
