//! One `RUN --mount=…`: comma-separated `key=value` fields whose values may hold variables.
//!
//! The keys, what each type allows of them, and the texts of the errors are those of BuildKit's parser. A
//! mount is read twice: when the Dockerfile is parsed, as far as that goes without the variables' values,
//! and when the step runs.

use crate::dockerfile::instruction::{Look, RunMount, RunMountKind, Sharing};
use naru_types::quantity::parse_bytes;
use naru_types::suggest::nearest;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Replaces the variables of one value.
pub(crate) type Expand<'a> = dyn Fn(&str) -> Result<String, String> + 'a;

/// What is wrong with a mount, and what may help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl From<String> for MountError {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

type Parsed<T> = Result<T, MountError>;

/// The stage or image of `from=`, which must be known before anything runs and so may have no variable.
pub(crate) fn origin(text: &str) -> Parsed<Option<String>> {
    let mut from = None;
    for field in fields(text)? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if !key.eq_ignore_ascii_case("from") {
            continue;
        }
        if value.find('$').is_some_and(|at| at + 1 != value.len()) {
            return Err(
                format!("'{key}' doesn't support variable expansion, define alias stage instead").into()
            );
        }
        from = Some(value.to_owned()).filter(|from| !from.is_empty());
    }
    Ok(from)
}

pub(crate) fn parse(text: &str, expand: &Expand<'_>) -> Parsed<RunMount> {
    let mut keys = Keys::default();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').map_or((&*field, None), |(key, value)| (key, Some(value)));
        let key = key.to_ascii_lowercase();
        match value {
            Some(value) => keys.set(&key, &field, &expand(value)?)?,
            None => keys.set_switch(&key, &field)?,
        }
    }
    keys.finish()
}

#[derive(Default)]
struct Keys {
    kind: Option<String>,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    sharing: Option<Sharing>,
    size: Option<i64>,
    look: Look,
    read_only: Option<bool>,
    required: bool,
    env: Option<String>,
}

impl Keys {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("bind")
    }

    /// A key that stands without a value.
    fn set_switch(&mut self, key: &str, field: &str) -> Parsed<()> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.set_required(key, true)?,
            _ => return Err(format!("invalid field '{field}' must be a key=value pair").into()),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, field: &str, value: &str) -> Parsed<()> {
        let text = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "type" => self.kind = Some(mount_type(value)?),
            "from" => self.from = text,
            "source" | "src" => self.source = text,
            "target" | "dst" | "destination" => self.target = text,
            "id" => self.id = text,
            "env" => self.env = Some(value.to_owned()),
            "sharing" => self.sharing = Some(sharing(value)?),
            "readonly" | "ro" => self.read_only = Some(boolean(key, value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(key, value)?),
            "required" => self.set_required(key, boolean(key, value)?)?,
            "size" if self.kind() == "tmpfs" => {
                let bytes = parse_bytes(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
                self.size = Some(bytes);
            }
            "size" => return Err(self.unexpected(key)),
            "mode" => self.look.mode = Some(number(key, value, 8)?),
            "uid" => self.look.uid = Some(number(key, value, 10)?),
            "gid" => self.look.gid = Some(number(key, value, 10)?),
            unknown => {
                let hint = nearest(unknown, KEYS).map(|meant| format!("did you mean {meant}?"));
                let hint = hint.or_else(|| Some(format!("known: {}", KEYS.join(", "))));
                return Err(MountError { message: format!("unexpected key '{unknown}' in '{field}'"), hint });
            }
        }
        Ok(())
    }

    fn set_required(&mut self, key: &str, value: bool) -> Parsed<()> {
        if !matches!(self.kind(), "secret" | "ssh") {
            return Err(self.unexpected(key));
        }
        self.required = value;
        Ok(())
    }

    fn unexpected(&self, key: &str) -> MountError {
        format!("unexpected key '{key}' for mount type '{}'", self.kind()).into()
    }

    fn finish(self) -> Parsed<RunMount> {
        let kind = self.kind().to_owned();
        self.check(&kind)?;
        let target = self.target.clone();
        let kind = match kind.as_str() {
            "cache" => RunMountKind::Cache {
                id: self.id,
                from: self.from,
                source: self.source,
                sharing: self.sharing.unwrap_or_default(),
                read_only: self.read_only.unwrap_or(false),
                look: self.look,
            },
            "tmpfs" => RunMountKind::Tmpfs { size: self.size.filter(|size| *size > 0) },
            "secret" => {
                let id = self.source.or(self.id).or_else(|| target.as_deref().map(base_name));
                RunMountKind::Secret {
                    id: id.unwrap_or_default(),
                    env: self.env,
                    required: self.required,
                    look: self.look,
                }
            }
            "ssh" => RunMountKind::Ssh {
                id: self.id.unwrap_or_else(|| "default".into()),
                required: self.required,
                look: self.look,
            },
            _ => RunMountKind::Bind {
                from: self.from,
                source: self.source.unwrap_or_else(|| "/".into()),
                read_only: self.read_only.unwrap_or(true),
            },
        };
        Ok(RunMount { target, kind })
    }

    /// What a type doesn't go with.
    fn check(&self, kind: &str) -> Parsed<()> {
        let Look { mode, uid, gid } = self.look;
        let looks = [("mode", mode), ("uid", uid), ("gid", gid)];
        if matches!(kind, "bind" | "tmpfs")
            && let Some((key, _)) = looks.into_iter().find(|(_, value)| value.is_some())
        {
            return Err(format!("{key} not allowed for {kind:?} type mounts").into());
        }
        if kind == "secret" {
            if self.from.is_some() {
                return Err("secret mount should not have a from".to_owned().into());
            }
            if self.sharing.is_some() {
                return Err("secret mount should not define sharing".to_owned().into());
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return Err("invalid secret mount. one of source, target required".to_owned().into());
            }
            if self.source.is_some() && self.id.is_some() {
                return Err("both source and id can't be set".to_owned().into());
            }
        }
        if kind == "ssh" && self.source.is_some() {
            return Err("ssh does not support source".to_owned().into());
        }
        if self.sharing.is_some() && kind != "cache" {
            return Err(format!("invalid cache sharing set for {kind} mount").into());
        }
        Ok(())
    }
}

fn base_name(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

fn mount_type(value: &str) -> Parsed<String> {
    let kind = value.to_ascii_lowercase();
    if TYPES.contains(&kind.as_str()) {
        return Ok(kind);
    }
    let hint = nearest(&kind, TYPES).map(|meant| format!("did you mean {meant}?"));
    let hint = hint.or_else(|| Some("use bind, cache, tmpfs, secret or ssh".into()));
    Err(MountError { message: format!("unsupported mount type {value:?}"), hint })
}

fn sharing(value: &str) -> Parsed<Sharing> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "locked" => Ok(Sharing::Locked),
        "private" => Ok(Sharing::Private),
        _ => Err(MountError {
            message: format!("unsupported sharing value {value:?}"),
            hint: Some("use shared, locked or private".into()),
        }),
    }
}

/// The words of Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Parsed<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}").into()),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Parsed<u32> {
    let digits = !value.starts_with('+');
    u32::from_str_radix(value, radix)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("invalid value {value} for {key}").into())
}

/// The fields of one CSV record (RFC 4180): a quoted field may hold commas, `""` in it is a quote.
fn fields(text: &str) -> Parsed<Vec<String>> {
    let broken = || MountError::from(format!("failed to parse csv mounts: {text:?}"));
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted.find('"').ok_or_else(broken)?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                let Some(behind) = quoted.strip_prefix('"') else { break };
                field.push('"');
                quoted = behind;
            }
            rest = quoted;
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(broken());
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
            if field.contains('"') {
                return Err(broken());
            }
        }
        found.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Parsed<RunMount> {
        parse(text, &|value| Ok(value.replace("$V", "v")))
    }

    #[test]
    fn mounts() {
        let bind = |from: Option<&str>, source: &str, read_only| RunMountKind::Bind {
            from: from.map(Into::into),
            source: source.into(),
            read_only,
        };
        let look = |mode, uid, gid| Look { mode, uid, gid };
        for (text, target, kind) in [
            ("target=/x", Some("/x"), bind(None, "/", true)),
            ("TYPE=bind,dst=/x,src=/$V,from=b,rw", Some("/x"), bind(Some("b"), "/v", false)),
            ("type=tmpfs,target=/x,size=1m", Some("/x"), RunMountKind::Tmpfs { size: Some(1 << 20) }),
            (
                "type=cache,target=/x,sharing=locked,ro,uid=5,from=b,source=s",
                Some("/x"),
                RunMountKind::Cache {
                    id: None,
                    from: Some("b".into()),
                    source: Some("s".into()),
                    sharing: Sharing::Locked,
                    read_only: true,
                    look: look(None, Some(5), None),
                },
            ),
            (
                "type=secret,target=/a/key.pem,required,mode=0440",
                Some("/a/key.pem"),
                RunMountKind::Secret {
                    id: "key.pem".into(),
                    env: None,
                    required: true,
                    look: look(Some(0o440), None, None),
                },
            ),
            (
                "type=secret,id=tok,env=TOKEN",
                None,
                RunMountKind::Secret {
                    id: "tok".into(),
                    env: Some("TOKEN".into()),
                    required: false,
                    look: Look::default(),
                },
            ),
            (
                "type=ssh",
                None,
                RunMountKind::Ssh { id: "default".into(), required: false, look: Look::default() },
            ),
        ] {
            let found = plain(text).unwrap();
            assert_eq!((found.target.as_deref(), found.kind), (target, kind), "{text}");
        }
        assert_eq!(fields("a=\"\",b").unwrap_err().message, "failed to parse csv mounts: \"a=\\\"\\\",b\"");
        assert_eq!(fields("\"a=1,\"\"2\",b").unwrap(), ["a=1,\"2", "b"]);
        assert_eq!(origin("from=b,target=$x").unwrap().as_deref(), Some("b"));
        assert!(origin("from=$b,target=/x").is_err());
    }

    #[test]
    fn bad_mounts() {
        for (text, message) in [
            ("type=volume,target=/x", "unsupported mount type \"volume\""),
            ("typ=cache", "unexpected key 'typ' in 'typ=cache'"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("target=/x,ro=maybe", "invalid value for ro: maybe"),
            ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
            ("target=/x,size=1m", "unexpected key 'size' for mount type 'bind'"),
            ("target=/x,uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
            ("type=cache,target=/x,sharing=no", "unsupported sharing value \"no\""),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=tmpfs,target=/x,sharing=locked", "invalid cache sharing set for tmpfs mount"),
        ] {
            assert_eq!(plain(text).unwrap_err().message, message, "{text}");
        }
    }
}
