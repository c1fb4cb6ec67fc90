//! Real containers through the engine, keeper and kernel.
#![allow(clippy::unwrap_used)] // helpers of tests may panic like tests; clippy's own exception ends at #[test] functions

mod sandbox;

use naru_engine::{
    ArchivePut, AttachOptions, Engine, ExecSpec, ExecStart, HealthStatus, LogOptions, RemoveOptions, Status,
    WaitCondition,
};
use naru_types::Kind;
use naru_types::image::Healthcheck;
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, Mount, MountSource, NetworkMode, Propagation, RestartPolicy};
use sandbox::{sandboxed, sh, spec};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Creates, waits, starts; gives id and exit code.
async fn run(engine: &Arc<Engine>, mut spec: ContainerSpec) -> (String, i64) {
    if spec.network.mode == NetworkMode::Bridge {
        spec.network.mode = NetworkMode::None;
    }
    let condition = if spec.auto_remove { WaitCondition::Removed } else { WaitCondition::NextExit };
    let id = engine.create(None, spec).await.unwrap().id.to_string();
    let wait = engine.wait(&id, condition).await.unwrap();
    engine.start(&id).await.unwrap();
    (id, wait.done().await.exit_code)
}

fn quiet(mut spec: ContainerSpec) -> ContainerSpec {
    spec.network.mode = NetworkMode::None;
    spec
}

async fn logs(engine: &Arc<Engine>, id: &str, follow: bool) -> String {
    let options = LogOptions { stdout: true, stderr: true, follow, ..LogOptions::default() };
    let mut records = engine.logs(id, options).await.unwrap();
    let mut text = Vec::new();
    while let Some(record) = records.recv().await {
        text.extend_from_slice(&record.payload);
    }
    String::from_utf8(text).unwrap()
}

/// Frames taken apart, both streams in one.
fn payload(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let [_, _, _, _, a, b, c, d, rest @ ..] = bytes {
        let (part, next) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        text.extend_from_slice(part);
        bytes = next;
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_life() {
    sandboxed("a_life", |world| async move {
        let engine = world.open().await;
        let (id, code) = run(&engine, sh("echo out; echo err >&2; echo $FROM_IMAGE; exit 3")).await;
        assert_eq!(code, 3);
        let view = engine.inspect(&id[..12]).unwrap();
        assert_eq!((view.state.status, view.state.exit_code, view.state.pid), (Status::Exited, 3, 0));
        let text = logs(&engine, &id, true).await;
        assert!(text.contains("out\n") && text.contains("err\n") && text.contains("1\n"), "{text:?}");
        let actions: Vec<_> =
            engine.events_since(naru_types::Timestamp::ZERO).into_iter().map(|e| e.action).collect();
        let ours: Vec<_> = actions.iter().map(String::as_str).collect();
        assert_eq!(ours, ["create", "start", "die"]);

        let (_, code) = run(&engine, ContainerSpec { auto_remove: true, ..sh("exit 7") }).await;
        assert_eq!(code, 7);
        assert_eq!(engine.list().len(), 1);

        for (command, code) in [("/nope", 127), ("/etc/passwd", 126)] {
            let id = engine.create(None, quiet(spec(&[command]))).await.unwrap().id.to_string();
            let error = engine.start(&id).await.unwrap_err();
            assert!(error.message().starts_with("failed to create task for container: "), "{error}");
            let view = engine.inspect(&id).unwrap();
            assert_eq!((view.state.exit_code, view.state.status), (code, Status::Created), "{error}");
        }
        world.end(engine).await;
    });
}

#[test]
fn refusals_change_nothing() {
    sandboxed("refusals_change_nothing", |world| async move {
        let engine = world.open().await;
        let missing = ContainerSpec { image: "nope".into(), ..spec(&["true"]) };
        let error = engine.create(Some("one"), missing).await.unwrap_err();
        assert_eq!((error.message(), error.kind()), ("No such image: nope:latest", Kind::NotFound));
        let mut bound = quiet(spec(&["true"]));
        let source = MountSource::Bind {
            path: "/no/such/place".into(),
            propagation: Propagation::default(),
            create: false,
        };
        bound.mounts.push(Mount { source, target: "/m".into(), read_only: false });
        let error = engine.create(Some("one"), bound).await.unwrap_err();
        assert_eq!(
            error.message(),
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/place"
        );
        let first = engine.create(Some("one"), quiet(spec(&["sleep", "1000"]))).await.unwrap().id;
        let error = engine.create(Some("one"), quiet(spec(&["true"]))).await.unwrap_err();
        assert!(
            error.message().starts_with("Conflict. The container name \"/one\" is already in use"),
            "{error}"
        );
        engine.start("one").await.unwrap();
        assert_eq!(engine.start("one").await.unwrap_err().kind(), Kind::NotModified);
        let error = engine.remove("one", RemoveOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert_eq!(engine.list().len(), 1);
        engine.pause("one").await.unwrap();
        assert_eq!(engine.inspect("one").unwrap().state.status, Status::Paused);
        engine.unpause("one").await.unwrap();
        engine.rename("one", "two").await.unwrap();
        engine.stop("two", None, Some(0)).await.unwrap();
        assert_eq!(engine.inspect("two").unwrap().state.exit_code, 137);
        assert_eq!(engine.stop("two", None, None).await.unwrap_err().kind(), Kind::NotModified);
        assert_eq!(engine.kill(first.as_str(), Signal::KILL).await.unwrap_err().kind(), Kind::Conflict);
        world.end(engine).await;
    });
}

#[test]
fn fast_containers_do_not_race() {
    sandboxed("fast_containers_do_not_race", |world| async move {
        let engine = world.open().await;
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..5 {
            let engine = Arc::clone(&engine);
            tasks.spawn(async move {
                for round in 0..10 {
                    let spec =
                        ContainerSpec { auto_remove: true, ..sh(&format!("exit {}", lane * 10 + round)) };
                    assert_eq!(run(&engine, spec).await.1, lane * 10 + round);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(engine.list().is_empty());
        world.end(engine).await;
    });
}

#[test]
fn streams_lose_no_byte() {
    sandboxed("streams_lose_no_byte", |world| async move {
        let engine = world.open().await;
        let mut cat = quiet(spec(&["cat"]));
        cat.stdio.open_stdin = true;
        cat.stdio.stdin_once = true;
        let id = engine.create(None, cat).await.unwrap().id.to_string();
        let both = AttachOptions { stdin: true, stdout: true, stderr: true };
        let mut stream = engine.attach(&id, both).await.unwrap();
        engine.start(&id).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(payload(&bytes), "hello\n");

        let id = engine.create(None, quiet(sh("sleep 1000"))).await.unwrap().id.to_string();
        engine.start(&id).await.unwrap();
        let args = ["sh", "-c", "echo in exec; exit 5"].map(str::to_owned).to_vec();
        let exec = ExecSpec { args, attach_stdout: true, attach_stderr: true, ..ExecSpec::default() };
        let exec = engine.exec_create(&id, exec).await.unwrap();
        let mut stream = engine.exec_start(exec.as_str(), ExecStart::default()).await.unwrap().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(payload(&bytes), "in exec\n");
        while engine.exec_inspect(exec.as_str()).unwrap().exit_code.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(engine.exec_inspect(exec.as_str()).unwrap().exit_code, Some(5));
        assert!(!engine.top(&id).await.unwrap().is_empty());
        assert!(engine.stats(&id).await.unwrap().pids.current > 0);
        world.end(engine).await;
    });
}

#[test]
fn restarts_and_health() {
    sandboxed("restarts_and_health", |world| async move {
        let engine = world.open().await;
        let mut events = engine.subscribe();
        let policy = RestartPolicy::OnFailure { max_retries: 2 };
        let (id, code) = run(&engine, ContainerSpec { restart: policy, ..sh("exit 1") }).await;
        // The wait ends with the first of three runs.
        assert_eq!(code, 1);
        while engine.inspect(&id).unwrap().state.status != Status::Exited {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(engine.inspect(&id).unwrap().restart_count, 2);

        let mut watched = quiet(sh("touch /ok; sleep 1000"));
        watched.healthcheck = Some(Healthcheck {
            test: vec!["CMD".into(), "test".into(), "-e".into(), "/ok".into()],
            interval: 50_000_000,
            retries: 1,
            ..Healthcheck::default()
        });
        let id = engine.create(None, watched).await.unwrap().id.to_string();
        engine.start(&id).await.unwrap();
        for (word, status) in [("healthy", HealthStatus::Healthy), ("unhealthy", HealthStatus::Unhealthy)] {
            while events.recv().await.unwrap().action != format!("health_status: {word}") {}
            assert_eq!(engine.inspect(&id).unwrap().state.health.unwrap().status, status);
            let args = ["sh", "-c", "rm /ok || /bin/busybox rm /ok"].map(str::to_owned).to_vec();
            let exec = engine.exec_create(&id, ExecSpec { args, ..ExecSpec::default() }).await.unwrap();
            engine
                .exec_start(exec.as_str(), ExecStart { detach: true, ..ExecStart::default() })
                .await
                .unwrap();
        }
        world.end(engine).await;
    });
}

#[test]
fn memory_that_is_eaten() {
    sandboxed("memory_that_is_eaten", |world| async move {
        let engine = world.open().await;
        let mut eater = sh("head -c 100000000 /dev/zero | /bin/busybox tail > /dev/null; exit 9");
        eater.process.cmd = Some(["/bin/busybox", "tail", "/dev/zero"].map(str::to_owned).to_vec());
        eater.resources.memory = 16 << 20;
        eater.resources.memory_swap = 16 << 20;
        let (id, code) = run(&engine, eater).await;
        let view = engine.inspect(&id).unwrap();
        assert_eq!((code, view.state.oom_killed), (137, true));
        world.end(engine).await;
    });
}

#[test]
fn files_go_both_ways() {
    sandboxed("files_go_both_ways", |world| async move {
        let engine = world.open().await;
        let mut with_volume = sh("echo hi > /tmp/f; cat /data/seed; ln -s /etc/passwd /tmp/link");
        let source = MountSource::named_volume("keep", true);
        with_volume.mounts.push(Mount { source, target: "/data".into(), read_only: false });
        let (id, code) = run(&engine, with_volume).await;
        assert_eq!((code, logs(&engine, &id, false).await.as_str()), (0, "from the image\n"));
        let stat = engine.archive_stat(&id, "/tmp/link").await.unwrap();
        assert_eq!((stat.name.as_str(), stat.link_target.as_str()), ("link", "/etc/passwd"));
        assert_eq!(engine.archive_stat(&id, "/data/seed").await.unwrap().size, 15);
        assert_eq!(engine.archive_stat(&id, "/nope").await.unwrap_err().kind(), Kind::NotFound);
        let (_, mut chunks) = engine.archive_get(&id, "/tmp/f").await.unwrap();
        let mut tar = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            tar.extend_from_slice(&chunk.unwrap());
        }
        // A pax header with the exact time may come first.
        let head = tar.chunks(512).position(|block| block.starts_with(b"f\0")).unwrap();
        assert!(tar[(head + 1) * 512..].starts_with(b"hi\n"));
        engine
            .archive_put(&id, "/data", ArchivePut::default(), Box::new(std::io::Cursor::new(tar)))
            .await
            .unwrap();
        assert_eq!(std::fs::read(world.path().join("root/volumes/keep/_data/f")).unwrap(), b"hi\n");
        let changes = engine.changes(&id).await.unwrap();
        assert!(changes.iter().any(|change| change.path == "/tmp/f"), "{changes:?}");
        let error = engine.volume_remove("keep", false).await.unwrap_err();
        assert_eq!(error.message(), format!("remove keep: volume is in use - [{id}]"));
        let image = engine.commit(&id, naru_engine::CommitOptions::default()).await.unwrap();
        let (_, code) = run(&engine, ContainerSpec { image: image.to_string(), ..sh("cat /tmp/f") }).await;
        assert_eq!(code, 0);
        world.end(engine).await;
    });
}

#[test]
fn deaths_of_daemon_and_keeper() {
    sandboxed("deaths_of_daemon_and_keeper", |world| async move {
        let engine = world.open().await;
        let loud = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done";
        let id = engine.create(Some("loud"), quiet(sh(loud))).await.unwrap().id.to_string();
        engine.start(&id).await.unwrap();
        let pid = engine.inspect(&id).unwrap().state.pid;
        engine.shutdown().await.unwrap();
        drop(engine);
        let engine = reopen(&world).await;
        let view = engine.inspect("loud").unwrap();
        assert_eq!((view.state.status, view.state.pid), (Status::Running, pid));

        // The keeper is killed; the container goes on, its log too, and its exit code is right or unknown.
        let keeper = keeper_pid(&world);
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(keeper).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        while keeper_pid(&world) == keeper || keeper_pid(&world) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        let wait = engine.wait("loud", WaitCondition::NotRunning).await.unwrap();
        engine.kill("loud", Signal::KILL).await.unwrap();
        let code = wait.done().await.exit_code;
        let view = engine.inspect("loud").unwrap();
        assert!(code == 137 || (code == 255 && view.state.exit_unknown), "{code}");
        let lines: Vec<u64> =
            logs(&engine, "loud", false).await.lines().map(|line| line.parse().unwrap()).collect();
        assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "{lines:?}");
        world.end(engine).await;
    });
}

/// The lock of the engine that was shut down goes when its last task does.
async fn reopen(world: &sandbox::World) -> Arc<Engine> {
    loop {
        match Engine::open(world.config()).await {
            Ok(engine) => return engine,
            Err(error) if error.kind() == Kind::Conflict => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => unreachable!("{}", error.chain()),
        }
    }
}

/// The process that was started as this world's keeper; zero while there is none.
fn keeper_pid(world: &sandbox::World) -> i32 {
    let run = world.path().join("run");
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.into_iter()
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|&b| b == 0).collect();
            words.get(1) == Some(&&b"keeper"[..]) && words.get(3) == Some(&run.to_str().unwrap().as_bytes())
        })
        .unwrap_or(0)
}
