//! The rules: names and descriptions as BuildKit's documentation has them.

pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

impl Rule {
    /// Where BuildKit's documentation explains the rule: its name in lower case, with hyphens.
    pub(super) fn url(&self) -> String {
        let mut path = String::new();
        let chars: Vec<char> = self.name.chars().collect();
        for (index, c) in chars.iter().enumerate() {
            let after_lower = index > 0 && chars[index - 1].is_ascii_lowercase();
            let before_lower = index > 0 && chars.get(index + 1).is_some_and(char::is_ascii_lowercase);
            if c.is_ascii_uppercase() && (after_lower || before_lower) {
                path.push('-');
            }
            path.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{path}/")
    }
}

pub(super) static STAGE_NAME_CASING: Rule =
    Rule { name: "StageNameCasing", description: "Stage names should be lowercase" };
pub(super) static FROM_AS_CASING: Rule = Rule {
    name: "FromAsCasing",
    description: "The 'as' keyword should match the case of the 'from' keyword",
};
pub(super) static NO_EMPTY_CONTINUATION: Rule = Rule {
    name: "NoEmptyContinuation",
    description: "Empty continuation lines will become errors in a future release",
};
pub(super) static CONSISTENT_INSTRUCTION_CASING: Rule = Rule {
    name: "ConsistentInstructionCasing",
    description: "All commands within the Dockerfile should use the same casing (either upper or lower)",
};
pub(super) static DUPLICATE_STAGE_NAME: Rule =
    Rule { name: "DuplicateStageName", description: "Stage names should be unique" };
pub(super) static RESERVED_STAGE_NAME: Rule =
    Rule { name: "ReservedStageName", description: "Reserved words should not be used as stage names" };
pub(super) static JSON_ARGS_RECOMMENDED: Rule = Rule {
    name: "JSONArgsRecommended",
    description: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
};
pub(super) static MAINTAINER_DEPRECATED: Rule = Rule {
    name: "MaintainerDeprecated",
    description: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
};
pub(super) static UNDEFINED_ARG_IN_FROM: Rule =
    Rule { name: "UndefinedArgInFrom", description: "FROM command must use declared ARGs" };
pub(super) static WORKDIR_RELATIVE_PATH: Rule = Rule {
    name: "WorkdirRelativePath",
    description: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
};
pub(super) static UNDEFINED_VAR: Rule =
    Rule { name: "UndefinedVar", description: "Variables should be defined before their use" };
pub(super) static MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    description: "Multiple instructions of the same type should not be used in the same stage",
};
pub(super) static LEGACY_KEY_VALUE_FORMAT: Rule = Rule {
    name: "LegacyKeyValueFormat",
    description: "Legacy key/value format with whitespace separator should not be used",
};
pub(super) static REDUNDANT_TARGET_PLATFORM: Rule = Rule {
    name: "RedundantTargetPlatform",
    description: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
};
pub(super) static SECRETS_USED_IN_ARG_OR_ENV: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    description: "Sensitive data should not be used in the ARG or ENV commands",
};
pub(super) static INVALID_DEFAULT_ARG_IN_FROM: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    description: "Default value for global ARG results in an empty or invalid base image name",
};
pub(super) static FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    description: "FROM --platform flag should not use a constant value",
};
pub(super) static COPY_IGNORED_FILE: Rule = Rule {
    name: "CopyIgnoredFile",
    description: "Attempting to Copy file that is excluded by .dockerignore",
};
pub(super) static EXPOSE_PROTO_CASING: Rule =
    Rule { name: "ExposeProtoCasing", description: "Protocol in EXPOSE instruction should be lowercase" };
pub(super) static EXPOSE_INVALID_FORMAT: Rule = Rule {
    name: "ExposeInvalidFormat",
    description: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (rule, path) in
            [(&JSON_ARGS_RECOMMENDED, "json-args-recommended"), (&UNDEFINED_VAR, "undefined-var")]
        {
            assert_eq!(rule.url(), format!("https://docs.docker.com/go/dockerfile/rule/{path}/"));
        }
    }
}
