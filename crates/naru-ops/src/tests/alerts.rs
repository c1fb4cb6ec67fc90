//! From an event to the receiver, through everything that can go wrong on the way.

use super::engine::{FakeEngine, view};
use super::receiver::{Answer, Receiver};
use super::{open, until};
use crate::events::{BuildStep, build};
use crate::port::EnginePort;
use crate::{AlertState, WebhookUrl};
use std::sync::Arc;
use std::time::Duration;

const LABELS: [(&str, &str); 2] =
    [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_told_with_its_last_words() {
    let (dir, engine, receiver) =
        (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()), Receiver::start(&[]));
    *engine.log.lock().unwrap() = (0..30).map(|n| format!("line {n} ``` @everyone")).collect();
    let web = view(1, "shop-web-1", &LABELS);
    engine.views.lock().unwrap().push(web.clone());
    let ops = open(dir.path(), &engine, Some(receiver.at)).await;
    engine.happens(&web, "kill", &[("signal", "15")]);
    engine.happens(&web, "die", &[("exitCode", "143")]);
    engine.happens(&web, "start", &[]);
    engine.happens(&web, "die", &[("exitCode", "7")]);
    until(async || (!receiver.titles().is_empty()).then_some(())).await;
    let message = receiver.got.lock().unwrap()[0].1.clone();
    assert_eq!(message["allowed_mentions"], serde_json::json!({"parse": []}));
    let embed = &message["embeds"][0];
    assert_eq!(embed["title"], "web died");
    let field = |name: &str| {
        embed["fields"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(
        (field("exit"), field("project"), field("image")),
        ("7".into(), "shop".into(), "shop/web:1".into())
    );
    let text = embed["description"].as_str().unwrap();
    assert!(text.contains("line 29") && text.contains("line 20") && !text.contains("line 19"), "{text}");
    assert_eq!(text.matches("```").count(), 2, "{text}");
    assert!(embed["footer"]["text"].as_str().unwrap().contains("test-host"));
    let alerts = until(async || {
        ops.recent_alerts(9).await.ok().filter(|a| matches!(a[0].state, AlertState::Sent { .. }))
    })
    .await;
    assert_eq!(alerts.len(), 1, "the stop was asked for");
    ops.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_no_wait_is_cut_short() {
    let wait = Duration::from_millis(400);
    let script =
        [Answer::HangUp, Answer::Error, Answer::Limited { body_ms: 400, header_secs: 0 }, Answer::NoContent];
    let (dir, engine, receiver) =
        (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()), Receiver::start(&script));
    let ops = open(dir.path(), &engine, Some(receiver.at)).await;
    let id = ops.deploy_started("shop", &["web".into()]).await.unwrap();
    ops.deploy_finished(id, Err("no such image".into())).await.unwrap();
    let all_sent = async || {
        let alerts = ops.recent_alerts(9).await.unwrap();
        alerts.iter().all(|alert| matches!(alert.state, AlertState::Sent { .. })).then_some(alerts)
    };
    assert_eq!(until(all_sent).await.len(), 2);
    let got = receiver.got.lock().unwrap().clone();
    let limited_at = got[2].0;
    assert!(got[3].0 - limited_at >= wait, "nothing is sent while it was told to wait");
    let titles = receiver.titles();
    assert!(
        titles.iter().any(|t| t == "Deploy of shop started")
            && titles.iter().any(|t| t == "Deploy of shop failed")
    );
    assert_eq!(got.len(), 5, "three refusals, two deliveries: {titles:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_address_is_not_used_again_until_there_is_a_new_one() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    let (gone, fresh) = (Receiver::start(&[Answer::Gone]), Receiver::start(&[]));
    let ops = open(dir.path(), &engine, Some(gone.at)).await;
    let at = crate::sender::now();
    engine.emit(build("b1", "shop/web", BuildStep::Started, at));
    until(async || {
        let alerts = ops.recent_alerts(1).await.unwrap();
        alerts.first().and_then(|alert| {
            matches!(&alert.state, AlertState::Failed { error } if error.contains("404")).then_some(())
        })
    })
    .await;
    engine.emit(build("b1", "shop/web", BuildStep::Failed { duration_ms: 1500, error: "exit code 2" }, at));
    until(async || (ops.recent_alerts(9).await.unwrap().len() == 2).then_some(())).await;
    assert_eq!(gone.titles().len(), 1);
    let url = WebhookUrl::parse(&format!("http://{}/hooks/secret-token", fresh.at)).unwrap();
    ops.set_webhook(Some(url)).await.unwrap();
    until(async || (!fresh.titles().is_empty()).then_some(())).await;
    assert_eq!(fresh.titles(), ["Build of shop/web failed"]);
    ops.test_webhook().await.unwrap();
    assert_eq!(gone.titles().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_is_sent_by_the_next_daemon() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ops = open(dir.path(), &engine, Some(nobody)).await;
    ops.deploy_started("shop", &[]).await.unwrap();
    let tried = async || match &ops.recent_alerts(1).await.unwrap()[0].state {
        AlertState::Pending { attempts: 1.., last_error: Some(error) } => Some(error.clone()),
        _ => None,
    };
    let error = until(tried).await;
    assert!(!error.contains("secret-token"), "{error}");
    ops.shutdown().await.unwrap();
    drop(ops);
    let receiver = Receiver::start(&[]);
    let ops = open(dir.path(), &engine, Some(receiver.at)).await;
    until(async || (receiver.titles().len() == 2).then_some(())).await;
    let mut titles = receiver.titles();
    titles.sort();
    assert_eq!(titles, ["Deploy of shop failed", "Deploy of shop started"], "it was cut off by the restart");
    assert!(
        matches!(&ops.deploys(1).await.unwrap()[0].state, crate::DeployState::Failed { error } if error == "daemon restarted")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_webhook_alerts_are_kept_for_the_record() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    let ops = open(dir.path(), &engine, None).await;
    ops.deploy_started("shop", &[]).await.unwrap();
    assert_eq!(ops.recent_alerts(1).await.unwrap()[0].state, AlertState::NoWebhook);
    assert!(ops.test_webhook().await.unwrap_err().hint().is_some());
}
