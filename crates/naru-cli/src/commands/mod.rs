//! One file per noun or verb; [`dispatch`] is the only place that knows them all.

mod alerts;
mod analyze;
mod archive;
mod attach;
mod bootstrap;
mod build;
mod build_context;
mod build_extras;
mod cp;
mod events;
mod exec;
mod history;
mod image;
mod image_care;
mod image_remote;
mod inspect;
mod layout;
mod lifecycle;
mod login;
mod logs;
mod network;
mod ps;
mod run;
mod stats;
mod system;
mod up;
mod volume;

use crate::client::{Api, Endpoint};
use crate::flags::{Command, ImageCommand, ManifestCommand};
use crate::{CliError, Outcome, output};
use naru_types::Result;

pub fn dispatch(command: Command, endpoint: &Endpoint) -> Outcome {
    let command = match command {
        Command::System(command) => return system::system(command, endpoint),
        Command::Logout { server } => return login::logout(server.as_deref().unwrap_or_default()),
        other => other,
    };
    let api = Api::connect(endpoint)?;
    match command {
        Command::Run(flags) => run::run(&api, &flags),
        Command::Create(flags) => run::create(&api, &flags),
        Command::Start(flags) => lifecycle::start(&api, &flags),
        Command::Stop(flags) => lifecycle::stop(&api, &flags, "stop"),
        Command::Restart(flags) => lifecycle::stop(&api, &flags, "restart"),
        Command::Kill(flags) => lifecycle::kill(&api, &flags),
        Command::Rm(flags) => lifecycle::remove(&api, &flags),
        Command::Pause(names) => lifecycle::simple(&api, &names, "pause"),
        Command::Unpause(names) => lifecycle::simple(&api, &names, "unpause"),
        Command::Wait(names) => lifecycle::wait(&api, &names),
        Command::Rename { container, new_name } => lifecycle::rename(&api, &container, &new_name),
        Command::Exec(flags) => exec::exec(&api, &flags),
        Command::Attach(flags) => attach::attach(&api, &flags),
        Command::Ps(flags) => ps::ps(&api, &flags),
        Command::Logs(flags) => logs::logs(&api, &flags),
        Command::Top { container } => ps::top(&api, &container),
        Command::Port { container } => ps::port(&api, &container),
        Command::Stats(flags) => stats::stats(&api, &flags),
        Command::Cp { source, destination } => cp::cp(&api, &source, &destination),
        Command::Diff { container } => inspect::diff(&api, &container),
        Command::Inspect(flags) => inspect::inspect(&api, &flags),
        Command::Images(flags) => image::images(&api, &flags),
        Command::Pull(flags) => image::pull(&api, &flags),
        Command::Push(flags) => image::push(&api, &flags),
        Command::Login(flags) => login::login(&api, &flags),
        Command::Tag { source, target } => image::tag(&api, &source, &target),
        Command::Rmi(flags) => image::remove(&api, &flags),
        Command::Build(flags) => build::build(&api, &flags),
        Command::Save(flags) => archive::save(&api, &flags),
        Command::Load(flags) => archive::load(&api, &flags),
        Command::Import(flags) => archive::import(&api, &flags),
        Command::History(flags) => history::history(&api, &flags),
        Command::Image(command) => image_command(&api, command),
        Command::Manifest(ManifestCommand::Inspect(flags)) => image_remote::manifest(&api, &flags),
        Command::Network(command) => network::network(&api, command),
        Command::Volume(command) => volume::volume(&api, command),
        Command::Events(flags) => events::events(&api, &flags),
        Command::Version(flag) => system::version(&api, &flag),
        Command::Info(flag) => system::info(&api, &flag),
        Command::Up(flags) => up::up(&api, &flags),
        Command::Down(flags) => up::down(&api, &flags),
        Command::Routes => alerts::routes(&api),
        Command::Ca => alerts::ca(&api),
        Command::Alerts(command) => alerts::alerts(&api, command),
        Command::Deploys => alerts::deploys(&api),
        Command::System(_) | Command::Logout { .. } => Ok(0),
    }
}

fn image_command(api: &Api, command: ImageCommand) -> Outcome {
    match command {
        ImageCommand::Ls(flags) => image::images(api, &flags),
        ImageCommand::Inspect(flags) => inspect::image(api, &flags),
        ImageCommand::History(flags) => history::history(api, &flags),
        ImageCommand::Pull(flags) => image::pull(api, &flags),
        ImageCommand::Push(flags) => image::push(api, &flags),
        ImageCommand::Tag { source, target } => image::tag(api, &source, &target),
        ImageCommand::Rm(flags) => image::remove(api, &flags),
        ImageCommand::Save(flags) => archive::save(api, &flags),
        ImageCommand::Load(flags) => archive::load(api, &flags),
        ImageCommand::Import(flags) => archive::import(api, &flags),
        ImageCommand::Verify(flags) => image_care::verify(api, &flags),
        ImageCommand::Gc(flags) => image_care::gc(api, &flags),
        ImageCommand::Analyze(flags) => analyze::analyze(api, &flags),
        ImageCommand::Bootstrap(flags) => bootstrap::bootstrap(api, &flags),
        ImageCommand::Copy(flags) => image_remote::copy(api, &flags),
        ImageCommand::Referrers(flags) => image_remote::referrers(api, &flags),
    }
}

/// Does `action` for each name and goes on after a failure: what worked is printed, what didn't is said, and the
/// exit code is 1 when anything failed.
fn for_each(names: &[String], mut action: impl FnMut(&str) -> Result<()>) -> Outcome {
    let mut code = 0;
    for name in names {
        if let Err(error) = action(name) {
            output::print_error(&error);
            code = 1;
        }
    }
    Ok(code)
}

fn invalid(message: impl Into<String>) -> CliError {
    naru_types::Error::invalid(message).into()
}
