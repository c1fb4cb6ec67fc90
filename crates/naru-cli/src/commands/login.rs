//! `login`, `logout`: docker's words and docker's places, so that both programs know each other's logins.

use crate::client::{Api, Body};
use crate::credentials::{self, DockerConfig};
use crate::flags::LoginFlags;
use crate::terminal::Hidden;
use crate::{Outcome, output};
use naru_types::{Error, Kind, Result};
use naru_wire::image::AuthConfig;
use naru_wire::system::AuthResponse;
use std::io::{BufRead, IsTerminal, Read};

/// Longest password or token, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

pub fn login(api: &Api, flags: &LoginFlags) -> Outcome {
    let key = credentials::key_of(flags.server.as_deref().unwrap_or_default());
    let mut config = DockerConfig::load()?;
    let kept = credentials::lookup(&config, key)?;
    let asks_nothing = flags.username.is_none() && flags.password.is_none();
    if asks_nothing && let Some(auth) = kept {
        output::talk("Authenticating with existing credentials...");
        match try_at(api, auth) {
            Ok(auth) => return succeed(&mut config, key, &auth),
            Err(error) if error.kind() == Kind::Unauthorized && std::io::stdin().is_terminal() => {
                output::talk("Stored credentials invalid or expired");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (username, password) = ask(flags)?;
    let auth = AuthConfig { username, password, serveraddress: key.to_owned(), ..AuthConfig::default() };
    let auth = try_at(api, auth)?;
    succeed(&mut config, key, &auth)
}

pub fn logout(server: &str) -> Outcome {
    let key = credentials::key_of(server);
    if credentials::forget(&mut DockerConfig::load()?, key)? {
        output::line(format_args!("Removing login credentials for {key}"));
    } else {
        output::line(format_args!("Not logged in to {key}"));
    }
    Ok(0)
}

/// What to keep: with an identity token the password isn't needed any more.
fn try_at(api: &Api, mut auth: AuthConfig) -> Result<AuthConfig> {
    let body = serde_json::to_value(&auth)
        .map_err(|error| Error::internal("cannot write the credentials").with_source(error))?;
    let answer = api.stream("POST", "/auth", Body::Json(body))?;
    let answer: AuthResponse = serde_json::from_reader(answer.take(PASSWORD_BYTES_MAX))
        .map_err(|error| Error::internal("the daemon answered with broken JSON").with_source(error))?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = answer.identity_token;
    }
    Ok(auth)
}

fn succeed(config: &mut DockerConfig, key: &str, auth: &AuthConfig) -> Outcome {
    if credentials::keep(config, key, auth)? {
        output::talk(format_args!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper (credsStore) to remove this warning.",
            config.path.display()
        ));
    }
    output::line("Login Succeeded");
    Ok(0)
}

/// The user's name and password from the flags, standard input or the terminal.
fn ask(flags: &LoginFlags) -> Result<(String, String)> {
    if flags.password_stdin {
        let mut password = String::new();
        std::io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut password).map_err(unreadable)?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        return Ok((flags.username.clone().unwrap_or_default(), filled("password", password)?));
    }
    if flags.password.is_some() {
        output::talk("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let username = match &flags.username {
        Some(name) => name.clone(),
        None => prompt("Username: ", false)?,
    };
    let username = filled("username", username)?;
    let password = match &flags.password {
        Some(password) => password.0.clone(),
        None => prompt("Password: ", true)?,
    };
    Ok((username, filled("password", password)?))
}

fn filled(what: &str, text: String) -> Result<String> {
    if text.is_empty() { Err(Error::invalid(format!("{what} is empty"))) } else { Ok(text) }
}

fn prompt(question: &str, is_hidden: bool) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::invalid("Cannot perform an interactive login from a non TTY device")
            .with_hint("pipe the password to `naru login -u NAME --password-stdin SERVER`"));
    }
    let hidden = is_hidden.then(Hidden::enter).transpose().map_err(unreadable)?;
    output::talk_part(question);
    let mut line = String::new();
    let read = stdin.lock().take(PASSWORD_BYTES_MAX).read_line(&mut line);
    if hidden.is_some() {
        output::talk("");
    }
    read.map_err(unreadable)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn unreadable(error: std::io::Error) -> Error {
    Error::invalid("cannot read the answer").with_source(error)
}
