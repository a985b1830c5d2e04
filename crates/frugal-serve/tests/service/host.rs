//! The host that puts everything together, without any model.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use frugal_serve::config::{Config, Flags};
use frugal_serve::host::{Host, Told};

use super::client::{ask, get};
use super::house::Models;
use super::stock::Stock;

#[tokio::test]
async fn who_writes_costs_slowly_keeps_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    let flags = Flags {
        bind: Some(vec!["127.0.0.1:0".into()]),
        ..Flags::default()
    };
    let host = Host {
        settings: Config::default().with(flags).resolve().unwrap(),
        models: Arc::new(Models::default()),
        catalogue: Arc::new(Stock::default()),
        grader: None,
        home: home.path().to_owned(),
        memory_bytes: 1 << 20,
        runs: None,
    };
    let (listens, address) = mpsc::channel();
    let (writes, begun) = mpsc::channel();
    // It ends with the tests.
    thread::spawn(move || {
        let told = |told: Told<'_>| match told {
            Told::Listening { addresses, .. } => listens.send(addresses[0]).unwrap(),
            Told::Spent(_) => {
                let _ = writes.send(());
                thread::sleep(Duration::from_secs(10));
            }
            Told::Loaded(_) | Told::Draining => {}
        };
        let _home = home;
        host.run(&told).unwrap();
    });
    let address = address.recv().unwrap();
    begun.recv().unwrap();
    let began = Instant::now();
    assert_eq!(ask(address, get("/livez")).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(5));
}
