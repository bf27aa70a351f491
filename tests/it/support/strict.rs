//! What model providers demand of a request, as strictly as the strictest of each kind: the rules by which they refuse one.
//!
//! Knows nothing of the server: a body goes in, what is wrong with it comes out.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// The Messages API.
    Anthropic,
    /// Somebody else who speaks it, wants thoughts back and gives them no seals.
    AnthropicLike,
    /// Chat completions, of the servers that take the least: alternation, a system message at the beginning only, an answer
    /// between results of tools and the next question.
    Chat,
    /// The Responses API.
    Responses,
}

/// What is wrong with `body`; empty if it is accepted. `own` says which ids of calls the provider made itself: it takes those,
/// whatever they are.
pub(crate) fn problems(rules: Rules, body: &Value, own: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut check = Check { problems: Vec::new(), sealed: rules != Rules::AnthropicLike, own };
    check.tools(rules, body);
    match rules {
        Rules::Anthropic | Rules::AnthropicLike => check.anthropic(body),
        Rules::Chat => check.chat(body),
        Rules::Responses => check.responses(body),
    }
    check.problems
}

struct Check<'a> {
    problems: Vec<String>,
    /// Whether thoughts need a seal.
    sealed: bool,
    own: &'a dyn Fn(&str) -> bool,
}

fn is_name(text: &str, max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= max && text.bytes().all(allowed)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Check<'_> {
    fn must(&mut self, ok: bool, problem: impl FnOnce() -> String) {
        if !ok {
            self.problems.push(problem());
        }
    }

    fn text(&mut self, value: &Value) {
        let text = value.as_str();
        self.must(text.is_some_and(|text| !text.trim().is_empty()), || {
            format!("a text without words: {value}")
        });
    }

    fn tools(&mut self, rules: Rules, body: &Value) {
        let mut names = HashSet::new();
        if let Some(tools) = body.get("tools") {
            self.must(!list(tools).is_empty(), || "no tools are no list".to_owned());
        }
        let count = list(&body["tools"]).len();
        self.must(count <= 128, || format!("{count} tools"));
        for tool in list(&body["tools"]) {
            let (tool, schema) = match rules {
                Rules::Anthropic | Rules::AnthropicLike => (tool, &tool["input_schema"]),
                Rules::Chat => (&tool["function"], &tool["function"]["parameters"]),
                Rules::Responses => (tool, &tool["parameters"]),
            };
            let name = str_of(&tool["name"]);
            let told = str_of(&tool["description"]).chars().count();
            let short = rules != Rules::Responses || told <= 1_024;
            self.must(short, || format!("{told} characters on tool {name:?}"));
            self.must(is_name(name, 64), || format!("the name of tool {name:?}"));
            self.must(names.insert(name.to_owned()), || format!("tool {name:?} twice"));
            self.must(schema["type"] == "object", || format!("the schema of {name} is no object"));
            let properties = schema["properties"].is_object();
            self.must(properties, || format!("the schema of {name} has no properties"));
            let plain = matches!(rules, Rules::Anthropic | Rules::AnthropicLike);
            let problem = schema_problem(schema, plain);
            self.must(problem.is_none(), || format!("the schema of {name}: {problem:?}"));
            for keyword in ["oneOf", "anyOf", "allOf", "enum", "not"] {
                let absent = schema.get(keyword).is_none();
                self.must(absent, || format!("the schema of {name} has {keyword} at the top"));
            }
        }
    }

    /// A picture in base64 that is what it says.
    fn image(&mut self, media_type: &str, data: &str) {
        let bytes = BASE64_STANDARD.decode(data).unwrap_or_default();
        let real: &[u8] = match media_type {
            "image/png" => b"\x89PNG",
            "image/jpeg" => b"\xFF\xD8\xFF",
            "image/gif" => b"GIF8",
            "image/webp" => b"RIFF",
            _ => b"none of the four types",
        };
        self.must(bytes.starts_with(real), || format!("a picture that is no {media_type}"));
        self.must(data.len() <= 5 << 20, || "a picture that is too large".to_owned());
    }

    /// A picture by its URL.
    fn image_url(&mut self, url: &str) {
        match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((media_type, data)) => self.image(media_type, data),
            None => self.must(url.starts_with("http"), || format!("a picture at {url}")),
        }
    }

    fn anthropic(&mut self, body: &Value) {
        self.must(body["max_tokens"].is_u64(), || "max_tokens is missing".to_owned());
        if let Some(system) = body.get("system") {
            self.text(system);
        }
        let messages = list(&body["messages"]);
        self.must(!messages.is_empty(), || "no messages".to_owned());
        let (mut ids, mut open): (HashSet<&str>, Vec<&str>) = (HashSet::new(), Vec::new());
        for (at, message) in messages.iter().enumerate() {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            self.must(message["role"] == role, || format!("message {at} is not of the {role}"));
            let blocks = list(&message["content"]);
            self.must(!blocks.is_empty(), || format!("message {at} is empty"));
            let results: Vec<&str> = blocks
                .iter()
                .take_while(|block| block["type"] == "tool_result")
                .map(|block| str_of(&block["tool_use_id"]))
                .collect();
            let answered =
                open.len() == results.len() && open.iter().all(|id| results.contains(id));
            self.must(answered, || format!("calls {open:?}, but message {at} has {results:?}"));
            let count = blocks.iter().filter(|block| block["type"] == "tool_result").count();
            self.must(count == results.len(), || format!("results behind others in message {at}"));
            open.clear();
            for block in blocks {
                self.block(block, role, &mut open);
            }
            for id in &open {
                self.must(ids.insert(id), || format!("the call id {id} twice"));
            }
            let last = blocks.last().map(|block| str_of(&block["type"])).unwrap_or_default();
            self.must(!last.contains("thinking"), || format!("message {at} ends with a thought"));
        }
        self.must(messages.len() % 2 == 1, || "the last message is not of the user".to_owned());
    }

    fn block<'a>(&mut self, block: &'a Value, role: &str, open: &mut Vec<&'a str>) {
        let kind = str_of(&block["type"]);
        let of = match kind {
            "text" => role,
            "thinking" | "redacted_thinking" | "tool_use" => "assistant",
            _ => "user",
        };
        self.must(of == role, || format!("{kind} from the {role}"));
        match kind {
            "text" => self.text(&block["text"]),
            "thinking" => {
                let seal = block["signature"].as_str();
                let sealed = seal.is_some_and(|seal| !seal.is_empty() || !self.sealed);
                let sealed = sealed && block["thinking"].is_string();
                self.must(sealed, || "a thought without its seal".to_owned());
            }
            "redacted_thinking" => {
                let sealed = !str_of(&block["data"]).is_empty();
                self.must(sealed, || "a hidden thought without its seal".to_owned());
            }
            "tool_use" => {
                let id = str_of(&block["id"]);
                self.must(is_name(id, 64) || (self.own)(id), || format!("the call id {id:?}"));
                let name = str_of(&block["name"]);
                self.must(is_name(name, 64), || format!("the name of the called tool {name:?}"));
                self.must(block["input"].is_object(), || "an input that is no object".to_owned());
                open.push(id);
            }
            "tool_result" => match &block["content"] {
                Value::Array(blocks) => {
                    self.must(!blocks.is_empty(), || "an empty result".to_owned());
                    for inner in blocks {
                        self.block(inner, "user", open);
                    }
                }
                text => self.text(text),
            },
            "image" if block["source"]["type"] == "base64" => {
                self.image(
                    str_of(&block["source"]["media_type"]),
                    str_of(&block["source"]["data"]),
                );
            }
            "document" if block["source"]["type"] == "base64" => {
                let bytes = BASE64_STANDARD.decode(str_of(&block["source"]["data"]));
                let real = bytes.is_ok_and(|bytes| bytes.starts_with(b"%PDF"));
                self.must(real, || "a document that is no PDF".to_owned());
            }
            "image" | "document" => {
                let url = str_of(&block["source"]["url"]);
                self.must(url.starts_with("https://"), || format!("a file at {url}"));
            }
            other => self.must(false, || format!("a block of type {other:?}")),
        }
    }

    fn chat(&mut self, body: &Value) {
        let messages = list(&body["messages"]);
        let mut ids = HashSet::new();
        let (mut before, mut open): (&str, Vec<&str>) = ("", Vec::new());
        for (at, message) in messages.iter().enumerate() {
            let role = str_of(&message["role"]);
            let follows = match before {
                "" => ["system", "user"].contains(&role),
                "system" => role == "user",
                "user" => role == "assistant",
                "tool" => role == "tool" || role == "assistant" || has_picture(message),
                _ => role == if open.is_empty() { "user" } else { "tool" },
            };
            self.must(follows, || format!("{role} follows {before} at {at}"));
            if role != "tool" {
                self.must(open.is_empty(), || format!("the calls {open:?} have no result at {at}"));
                open.clear();
            }
            match role {
                "tool" => {
                    self.text(&message["content"]);
                    let id = str_of(&message["tool_call_id"]);
                    let known = open.iter().position(|open| *open == id);
                    self.must(known.is_some(), || format!("a result without its call {id}"));
                    known.map(|known| open.remove(known));
                }
                "assistant" => {
                    let calls = list(&message["tool_calls"]);
                    if calls.is_empty() || !message["content"].is_null() {
                        self.text(&message["content"]);
                    }
                    for call in calls {
                        self.call(call, &mut ids);
                        open.push(str_of(&call["id"]));
                    }
                }
                "user" if message["content"].is_array() => {
                    for part in list(&message["content"]) {
                        self.part(part);
                    }
                }
                _ => self.text(&message["content"]),
            }
            before = role;
        }
        let asks = before == "user" || before == "tool";
        self.must(asks, || format!("the last message is of the {before}"));
    }

    fn call(&mut self, call: &Value, ids: &mut HashSet<String>) {
        let (id, name) = (str_of(&call["id"]), str_of(&call["function"]["name"]));
        self.must(call["type"] == "function", || "a call of another type".to_owned());
        self.must(is_name(id, 40) || (self.own)(id), || format!("the call id {id:?}"));
        self.must(ids.insert(id.to_owned()), || format!("the call id {id} twice"));
        self.must(is_name(name, 64), || format!("the name of the called tool {name:?}"));
        let input: Result<Value, _> = serde_json::from_str(str_of(&call["function"]["arguments"]));
        self.must(input.is_ok_and(|input| input.is_object()), || {
            "arguments of no object".to_owned()
        });
    }

    fn part(&mut self, part: &Value) {
        match str_of(&part["type"]) {
            "text" => self.text(&part["text"]),
            "image_url" => self.image_url(str_of(&part["image_url"]["url"])),
            "file" => {
                let data = str_of(&part["file"]["file_data"]);
                let pdf = data.starts_with("data:application/pdf;base64,JVBERi");
                self.must(pdf, || "a file that is no PDF".to_owned());
            }
            other => self.must(false, || format!("a part of type {other:?}")),
        }
    }

    fn responses(&mut self, body: &Value) {
        let items = list(&body["input"]);
        self.must(!items.is_empty(), || "no input".to_owned());
        let (mut ids, mut open) = (HashSet::new(), Vec::new());
        for (at, item) in items.iter().enumerate() {
            let kind = str_of(&item["type"]);
            let call = str_of(&item["call_id"]);
            match kind {
                "message" => {
                    let role = str_of(&item["role"]);
                    let answered = open.is_empty() || role == "assistant";
                    self.must(answered, || format!("the calls {open:?} have no output"));
                    let known = ["user", "assistant", "system"].contains(&role);
                    self.must(known, || format!("a message of {role:?}"));
                    let parts = list(&item["content"]);
                    self.must(!parts.is_empty(), || format!("item {at} is empty"));
                    for part in parts {
                        self.input_part(part, role);
                    }
                }
                "function_call" => {
                    let name = str_of(&item["name"]);
                    self.must(is_name(call, 64) || (self.own)(call), || {
                        format!("the call id {call:?}")
                    });
                    self.must(ids.insert(call), || format!("the call id {call} twice"));
                    self.must(is_name(name, 64), || format!("the name of the tool {name:?}"));
                    let input: Result<Value, _> = serde_json::from_str(str_of(&item["arguments"]));
                    let object = input.is_ok_and(|input| input.is_object());
                    self.must(object, || "arguments of no object".to_owned());
                    open.push(call);
                }
                "function_call_output" => {
                    let known = open.iter().position(|open| *open == call);
                    self.must(known.is_some(), || format!("an output without its call {call}"));
                    known.map(|known| open.remove(known));
                    match &item["output"] {
                        Value::Array(parts) => {
                            parts.iter().for_each(|part| self.input_part(part, "user"));
                        }
                        text => self.text(text),
                    }
                }
                "reasoning" => {
                    let sealed = !str_of(&item["encrypted_content"]).is_empty();
                    self.must(sealed, || "a thought without its content".to_owned());
                    self.must(item["summary"].is_array(), || {
                        "a thought without summary".to_owned()
                    });
                    let next = items.get(at + 1).unwrap_or(&Value::Null);
                    let followed = ["function_call", "reasoning"].contains(&str_of(&next["type"]))
                        || next["role"] == "assistant";
                    self.must(followed, || "a thought without what it led to".to_owned());
                }
                other => self.must(false, || format!("an item of type {other:?}")),
            }
        }
        self.must(open.is_empty(), || format!("the calls {open:?} have no output"));
        let last = items.last().unwrap_or(&Value::Null);
        self.must(last["role"] != "assistant", || "the last item is of the assistant".to_owned());
    }

    fn input_part(&mut self, part: &Value, role: &str) {
        let kind = str_of(&part["type"]);
        match (role, kind) {
            ("assistant", "output_text") | ("user" | "system", "input_text") => {
                self.text(&part["text"]);
            }
            ("user", "input_image") => self.image_url(str_of(&part["image_url"])),
            ("user", "input_file") => {
                let data = str_of(&part["file_data"]);
                let pdf = data.starts_with("data:application/pdf;base64,JVBERi")
                    || str_of(&part["file_url"]).starts_with("http");
                self.must(pdf, || "a file that is no PDF".to_owned());
            }
            _ => self.must(false, || format!("{kind} from the {role}")),
        }
    }
}

/// What a checker of schemas says against one. `plain`: whether names of fields must be.
fn schema_problem(schema: &Value, plain: bool) -> Option<String> {
    let Value::Object(all) = schema else {
        return (!schema.is_boolean()).then(|| format!("{schema} is no schema"));
    };
    let types = ["array", "boolean", "integer", "null", "number", "object", "string"];
    let is_type = |kind: &Value| types.contains(&str_of(kind));
    for (keyword, value) in all {
        let inner: Vec<&Value> = match keyword.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                let Value::Object(inner) = value else {
                    return Some(format!("{keyword}: {value}"));
                };
                let strange = |name: &&String| !is_name(&name.replace('.', "_"), 64);
                if let Some(name) = inner.keys().find(strange)
                    && plain
                    && keyword == "properties"
                {
                    return Some(format!("a field {name:?}"));
                }
                inner.values().collect()
            }
            "items" | "additionalProperties" => vec![value],
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                if list(value).is_empty() {
                    return Some(format!("{keyword}: {value}"));
                }
                list(value).iter().collect()
            }
            _ => Vec::new(),
        };
        let problem = inner.into_iter().find_map(|inner| schema_problem(inner, plain));
        if problem.is_some() {
            return problem;
        }
        let right = match keyword.as_str() {
            "type" => is_type(value) || list(value).iter().all(is_type) && !list(value).is_empty(),
            "required" => {
                let names: HashSet<&str> = list(value).iter().filter_map(Value::as_str).collect();
                value.is_array() && names.len() == list(value).len()
            }
            "enum" => !list(value).is_empty(),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
            "minLength" | "maxLength" | "minItems" | "maxItems" => value.is_u64(),
            "title" | "description" | "format" | "pattern" => value.is_string(),
            _ => true,
        };
        if !right {
            return Some(format!("{keyword}: {value}"));
        }
    }
    let is_array = schema["type"].to_string().contains("\"array\"");
    (is_array && schema.get("items").is_none()).then(|| "an array without items".to_owned())
}

fn has_picture(message: &Value) -> bool {
    list(&message["content"]).iter().any(|part| part["type"] == "image_url")
}
