//! All providers by name: what `provider/model` means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Extra;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::Provider;
use crate::model::access::Access;
use crate::model::anthropic;
use crate::model::anthropic::Anthropic;
use crate::model::echo::Echo;
use crate::model::http::Client;
use crate::model::http::check_base_url;
use crate::model::openai_chat;
use crate::model::openai_chat::OpenAiChat;
use crate::model::openai_responses;
use crate::model::openai_responses::OpenAiResponses;
use crate::model::placeholder::Placeholder;

/// Names that `compatible` providers cannot have.
const RESERVED: &[&str] =
    &["anthropic", "claude-cli", "echo", "openai", "openai-chat", "opencode", "placeholder"];

/// Providers that have one model, or choose one themselves: `provider` alone names it.
const CHOOSES: &[&str] = &["claude-cli", "echo", "opencode", "placeholder"];

/// Settings of all providers. Keys are not among them: they come from the environment or from files of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ModelSettings)]
pub struct Settings {
    /// Who answers if nobody says, as `provider/model`. Default `echo`, which needs no key.
    pub default: String,
    /// Whether `HTTPS_PROXY` and its like in the environment are obeyed. Default true.
    pub proxy: bool,
    /// The provider `anthropic`.
    pub anthropic: anthropic::Settings,
    /// The provider `openai`: its Responses API.
    pub openai: openai_responses::Settings,
    /// The provider `openai-chat`: its chat completions.
    pub openai_chat: openai_chat::Settings,
    /// More providers that speak chat completions, by name.
    pub compatible: BTreeMap<String, openai_chat::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default: "echo".to_owned(),
            proxy: true,
            anthropic: anthropic::Settings::default(),
            openai: openai_responses::Settings::default(),
            openai_chat: openai_chat::Settings::default(),
            compatible: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// What is wrong with them, all at once; each begins with the name of the setting.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if split(&self.default).is_err() {
            let is = &self.default;
            problems.push(format!(
                "default must be provider/model, as `openai/gpt-5`, or `echo`, not `{is}`"
            ));
        }
        for name in self.compatible.keys() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                problems.push(format!("compatible.{name}: use a-z, 0-9 and - in names"));
            }
            if RESERVED.contains(&name.as_str()) {
                problems.push(format!("compatible.{name}: this name is taken"));
            }
        }
        for (name, access, extra, own) in self.each() {
            problems.extend(faults(&name, &access, (extra, own)));
        }
        let vendors = openai_chat::Settings::default().base_url;
        for (name, chat) in &self.compatible {
            // Nobody means to tell the vendor without a key what is meant for a server of one's own.
            if chat.base_url == vendors && !chat.access(name).is_secret() {
                problems.push(format!("compatible.{name}.base_url must say where the server is"));
            }
        }
        let anthropic = &self.anthropic;
        for field in ["temperature", "top_p", "top_k"] {
            // Versions of the API after 2023-06-01 refuse sampling parameters with a 400.
            if anthropic.version != "2023-06-01" && anthropic.extra.contains_key(field) {
                let version = &anthropic.version;
                problems.push(format!("anthropic.extra must not hold `{field}` in {version}"));
            }
        }
        problems
    }

    /// The providers over HTTP: the name of the setting, how it is reached, its further fields and those it may not have.
    fn each(&self) -> Vec<(String, Access<'_>, &Extra, &'static [&'static str])> {
        let (anthropic, openai, chat) = (&self.anthropic, &self.openai, &self.openai_chat);
        let mut each: Vec<(String, Access<'_>, &Extra, &'static [&'static str])> = vec![
            ("anthropic".to_owned(), anthropic.access(), &anthropic.extra, anthropic::OWN),
            ("openai".to_owned(), openai.access(), &openai.extra, openai_responses::OWN),
            (
                "openai_chat".to_owned(),
                chat.access(openai_chat::NAME),
                &chat.extra,
                openai_chat::OWN,
            ),
        ];
        for (name, chat) in &self.compatible {
            let setting = format!("compatible.{name}");
            each.push((setting, chat.access(name), &chat.extra, openai_chat::OWN));
        }
        each
    }
}

/// What is wrong with the settings of one provider.
fn faults(name: &str, access: &Access<'_>, (extra, own): (&Extra, &[&str])) -> Vec<String> {
    let url = check_base_url(access.base_url, access.is_secret()).err();
    let url = url.map(|problem| format!("base_url {problem}"));
    let taken = extra.keys().filter(|field| own.contains(&field.as_str()));
    let taken = taken.map(|field| format!("extra must not hold `{field}`"));
    let all = url.into_iter().chain(taken).chain(access.problems());
    all.map(|problem| format!("{name}.{problem}")).collect()
}

/// Everybody who can be asked.
#[derive(Clone)]
pub struct Providers {
    default: String,
    by_name: BTreeMap<String, Arc<dyn Provider>>,
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.by_name.keys().collect();
        f.debug_struct("Providers").field("default", &self.default).field("names", &names).finish()
    }
}

impl Default for Providers {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

impl Providers {
    /// The providers of `settings`. Keys are read here; one without a key is there, and says so when it is asked.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let client = Client::new(settings.proxy);
        let mut providers = Self { default: settings.default.clone(), by_name: BTreeMap::new() };
        providers.add(Arc::new(Echo));
        providers.add(Arc::new(Placeholder));
        for (name, settings) in &settings.compatible {
            providers.add(Arc::new(OpenAiChat::new(name, settings, client.clone())));
        }
        let chat = OpenAiChat::new(openai_chat::NAME, &settings.openai_chat, client.clone());
        providers.add(Arc::new(chat));
        let responses = OpenAiResponses::new("openai", &settings.openai, client.clone());
        providers.add(Arc::new(responses));
        providers.add(Arc::new(Anthropic::new("anthropic", &settings.anthropic, client)));
        providers
    }

    /// The same and `provider`, in place of one with the same name.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn Provider>) -> Self {
        self.add(provider);
        self
    }

    fn add(&mut self, provider: Arc<dyn Provider>) {
        self.by_name.insert(provider.name().to_owned(), provider);
    }

    /// The names of those that can be asked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// What will not work as the settings are, for the operator: the default, and every provider that is set up. Whoever has
    /// its key elsewhere, or later, may start all the same.
    #[must_use]
    pub fn warnings(&self, settings: &Settings) -> Vec<String> {
        let reason = |address: &str| match self.get(address) {
            Ok((provider, model)) => provider.check(&model, "").err(),
            Err(error) => Some(error),
        };
        let default = reason(&self.default).map(|error| {
            format!(
                "models.default is {}, which cannot answer: {error}; turns that name no model will fail",
                self.default
            )
        });
        let plain = Settings::default();
        let set_up = [
            ("anthropic", settings.anthropic != plain.anthropic),
            ("openai", settings.openai != plain.openai),
            (openai_chat::NAME, settings.openai_chat != plain.openai_chat),
        ];
        let set_up = set_up.into_iter().filter_map(|(name, set_up)| set_up.then_some(name));
        let compatible = settings.compatible.keys().map(String::as_str);
        let others = set_up.chain(compatible).filter_map(|name| {
            let error = reason(&format!("{name}/a-model"))?;
            Some(format!("the provider {name} of the settings cannot answer: {error}"))
        });
        default.into_iter().chain(others).collect()
    }

    /// Who answers if nobody says, as `provider/model`.
    #[must_use]
    pub fn default_address(&self) -> &str {
        &self.default
    }

    /// The provider and the model that `address` means: everything up to the first slash, and everything behind it. An
    /// empty address means the default.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Request`] if it is not `provider/model`, or there is no such provider.
    pub fn get(&self, address: &str) -> Result<(Arc<dyn Provider>, String), ModelError> {
        let address = if address.is_empty() { self.default_address() } else { address };
        let (name, model) = split(address)?;
        let Some(provider) = self.by_name.get(name) else {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let message = format!("there is no such provider; there are {}", known.join(", "));
            return Err(ModelError::new(FailureKind::Request, message));
        };
        Ok((Arc::clone(provider), model.to_owned()))
    }
}

fn split(address: &str) -> Result<(&str, &str), ModelError> {
    let (name, model) = address.split_once('/').unwrap_or((address, ""));
    let complete = !name.is_empty() && (!model.is_empty() || CHOOSES.contains(&name));
    let error = || {
        let message = "a model is named as provider/model, for example openai/gpt-5";
        ModelError::new(FailureKind::Request, message)
    };
    complete.then_some((name, model)).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(providers: &Providers, address: &str, then: Result<(&str, &str), FailureKind>) {
        let found = providers.get(address);
        let found = found.as_ref().map(|(provider, model)| (provider.name(), model.as_str()));
        assert_eq!(found.map_err(|error| error.kind), then);
    }

    #[test]
    fn addresses_are_split_at_the_first_slash() {
        let mut settings = Settings { default: "anthropic/x".to_owned(), ..Settings::default() };
        settings.compatible.insert("router".to_owned(), openai_chat::Settings::default());
        let providers = Providers::new(&settings);
        check(&providers, "openai/gpt-x", Ok(("openai", "gpt-x")));
        check(&providers, "router/maker/model:free", Ok(("router", "maker/model:free")));
        check(&providers, "", Ok(("anthropic", "x")));
        for address in ["nobody/x", "openai", "openai/", "/x", "/"] {
            check(&providers, address, Err(FailureKind::Request));
        }
    }

    #[test]
    fn an_absent_key_is_told_with_its_name() {
        let anthropic = anthropic::Settings {
            key_env: Some("SESSILE_TEST_NO_KEY".to_owned()),
            ..Default::default()
        };
        let providers = Providers::new(&Settings { anthropic, ..Settings::default() });
        let (provider, model) = providers.get("anthropic/x").unwrap();
        let error = provider.check(&model, "hello").unwrap_err();
        assert_eq!(error.kind, FailureKind::Configuration);
        assert!(error.message.contains("SESSILE_TEST_NO_KEY"), "{error}");
    }

    #[test]
    fn settings_are_checked() {
        assert_eq!(Settings::default().problems(), Vec::<String>::new());
        let text = r#"{"default":"x","compatible":{"echo":{},"A b":{"key_env":""}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        // Both are also at the vendor of the protocol, without a key.
        let problems = settings.problems();
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(
            problems.contains(&"compatible.echo.base_url must say where the server is".to_owned())
        );
        let text = r#"{"openai":{"base_url":"http://example.org","key_env":"K"},"compatible":{"x":{"base_url":"?"}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.problems().len(), 2);
        let text = r#"{"compatible":{"x":{"base_url":"https://example.org",
            "headers":{"Host":"a","b c":"d","api-key":{}},"query":{"v":"a\nb","w":"1"}}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        let problems = settings.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        let all = |problem: &String| problem.starts_with("compatible.x.");
        assert!(problems.iter().all(all), "{problems:?}");
        let text = r#"{"anthropic":{"extra":{"thinking":{"type":"adaptive"},"model":"x"}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.problems(), ["anthropic.extra must not hold `model`"]);
        for text in [r#"{"anthropic":{"key":"k"}}"#, r#"{"openai":{"api_key":"k"}}"#] {
            let error = serde_json::from_str::<Settings>(text).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }
}
