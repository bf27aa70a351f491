//! Files and results of tools as models can read them: what a file is, its data says, not its name.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::base::json::Json;

/// Most of a text file that a model is given, in bytes.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Largest picture, in bytes of base64. No provider takes larger ones.
const IMAGE_BYTES_MAX: usize = 5 << 20;
/// Most pictures of one result.
const IMAGES_COUNT_MAX: usize = 20;
/// Shortest text of one word that is taken for data, in a block that nobody here knows.
const DATA_BYTES_MIN: usize = 256;
/// What a model hears of a tool that said nothing: not every provider takes an empty result.
const NOTHING: &str = "(no output)";

/// Reads base64 with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a model finds a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Base64.
    Data(String),
    /// An address that the provider can read.
    Url(String),
}

/// A file as models take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// A picture of one of the four types that all providers take.
    Image(&'static str, Place),
    /// A PDF.
    Pdf(Place),
    /// Its text, or a sentence in its place.
    Text(String),
}

impl Place {
    /// As a URL.
    pub(super) fn url(&self, media_type: &str) -> String {
        match self {
            Self::Data(data) => format!("data:{media_type};base64,{data}"),
            Self::Url(url) => url.clone(),
        }
    }
}

impl Readable {
    /// What the file at `url` is: a `data:` URL, or an address. `media_type` is believed of addresses only.
    pub(super) fn of(media_type: &str, url: &str, name: Option<&str>) -> Self {
        let media_type = essence(media_type);
        let sentence = || Self::Text(unreadable(&media_type, name));
        let sized = |data: &[u8]| Self::Text(described(&media_type, name, data.len()));
        if !url.starts_with("data:") {
            let place = || Place::Url(url.to_owned());
            let address = url.starts_with("https://") || url.starts_with("http://");
            return match (media_type.as_str(), image_type(&media_type)) {
                _ if !address => sentence(),
                ("application/pdf", _) => Self::Pdf(place()),
                (_, Some(image)) => Self::Image(image, place()),
                _ => sentence(),
            };
        }
        let Some((inner, data)) = parse(url) else { return sentence() };
        let told = if media_type.is_empty() { &inner } else { &media_type };
        let place = || Place::Data(BASE64_STANDARD.encode(&data));
        if let Some(image) = sniff(&data) {
            return if data.len() / 3 * 4 > IMAGE_BYTES_MAX {
                sized(&data)
            } else {
                Self::Image(image, place())
            };
        }
        if data.starts_with(b"%PDF-") {
            return Self::Pdf(place());
        }
        text(told, name, &data).map_or_else(|| sized(&data), Self::Text)
    }
}

/// What the model reads in place of a file that its provider does not take.
pub(super) fn unreadable(media_type: &str, name: Option<&str>) -> String {
    format!("[A file that cannot be shown: {}, {media_type}]", name.unwrap_or("without a name"))
}

/// The same of a file whose size is known.
fn described(media_type: &str, name: Option<&str>, bytes: usize) -> String {
    let size = match bytes {
        0..1_024 => format!("{bytes} B"),
        _ => format!("{} KB", bytes.div_ceil(1_024)),
    };
    unreadable(&format!("{media_type}, {size}"), name)
}

fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn image_type(media_type: &str) -> Option<&'static str> {
    match media_type {
        "image/png" => Some("image/png"),
        "image/jpeg" | "image/jpg" => Some("image/jpeg"),
        "image/gif" => Some("image/gif"),
        "image/webp" => Some("image/webp"),
        _ => None,
    }
}

/// What kind of picture data is, by its first bytes.
fn sniff(data: &[u8]) -> Option<&'static str> {
    match data {
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The type and the data of a `data:` URL.
fn parse(url: &str) -> Option<(String, Vec<u8>)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let is_base64 = head.to_ascii_lowercase().ends_with(";base64");
    let data = if is_base64 {
        let plain: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        LENIENT.decode(plain).ok()?
    } else {
        percent_decoded(data)
    };
    Some((essence(head), data))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                rest = &behind[2..];
            }
            _ => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

/// The text of a file that is one.
fn text(media_type: &str, name: Option<&str>, data: &[u8]) -> Option<String> {
    const TYPES: &[&str] = &["json", "xml", "yaml", "toml", "csv", "javascript", "markdown", "sql"];
    const ENDINGS: &[&str] = &[".csv", ".json", ".log", ".md", ".toml", ".txt", ".xml", ".yaml"];
    let name = name.unwrap_or("without a name");
    let (_, subtype) = media_type.split_once('/').unwrap_or_default();
    let is_text = media_type.starts_with("text/")
        || media_type.starts_with("application/")
            && TYPES.iter().any(|kind| subtype.contains(kind))
        || matches!(media_type, "" | "application/octet-stream")
            && ENDINGS.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    if !is_text || data.contains(&0) {
        return None;
    }
    let text = str::from_utf8(data).ok()?;
    let text = text.trim_start_matches('\u{FEFF}');
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "\n[The rest is left out.]" } else { "" };
    Some(format!("[File: {name}, {media_type}]\n{}{cut}\n[End of file]", &text[..end]))
}

/// A block of what an MCP tool says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    data: Option<String>,
    #[serde(rename = "mimeType")]
    media_type: Option<String>,
    /// Of a picture, as agents and the Messages API write one.
    source: Option<Source>,
    /// Of an embedded resource.
    resource: Option<Resource>,
    /// Of a link to one.
    uri: Option<String>,
    name: Option<String>,
    description: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    uri: String,
    #[serde(rename = "mimeType")]
    media_type: Option<String>,
    text: Option<String>,
    blob: Option<String>,
}

impl Block {
    /// The block `value`; `None` for one of another kind, or of another shape than its kind has.
    fn known(value: &Value) -> Option<Self> {
        const KINDS: &[&str] = &["audio", "image", "resource", "resource_link", "text"];
        KINDS.contains(&value["type"].as_str()?).then(|| Self::deserialize(value).ok()).flatten()
    }

    /// What a model can read of it.
    fn readable(self) -> Readable {
        let media_type = self.media_type.unwrap_or_default();
        match (self.kind.as_str(), self.resource) {
            ("text", _) => Readable::Text(self.text.unwrap_or_default()),
            ("resource_link", _) => {
                let words = [self.name, self.uri, self.description];
                let words: Vec<String> = words.into_iter().flatten().collect();
                Readable::Text(format!("[A link: {}]", words.join(", ")))
            }
            ("resource", Some(Resource { uri, text: Some(text), .. })) => {
                Readable::Text(format!("[File: {uri}]\n{text}\n[End of file]"))
            }
            ("resource", Some(resource)) => {
                let media_type = resource.media_type.unwrap_or_default();
                let data = resource.blob.unwrap_or_default();
                let url = format!("data:{media_type};base64,{data}");
                Readable::of(&media_type, &url, Some(&resource.uri))
            }
            _ => {
                let source = self.source.unwrap_or_default();
                let media_type = source.media_type.unwrap_or(media_type);
                let data = self.data.or(source.data).unwrap_or_default();
                let url = source.url.unwrap_or_else(|| format!("data:{media_type};base64,{data}"));
                Readable::of(&media_type, &url, None)
            }
        }
    }
}

/// What came of a call: its text, and the pictures in it. A string is taken as it is, blocks of MCP one by one, everything
/// else as JSON.
pub(super) fn result(output: &Json) -> (String, Vec<(&'static str, String)>) {
    if let Some(text) = output.as_string() {
        return (said(text), Vec::new());
    }
    let Some(blocks) = blocks(output) else {
        return (said(output.as_str().to_owned()), Vec::new());
    };
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for block in blocks {
        let Some(known) = Block::known(&block) else {
            texts.push(strange(block));
            continue;
        };
        match known.readable() {
            Readable::Image(kind, Place::Data(data)) if images.len() < IMAGES_COUNT_MAX => {
                images.push((kind, data));
            }
            Readable::Text(text) => texts.push(text),
            Readable::Image(kind, Place::Data(data)) => {
                texts.push(described(kind, None, data.len() / 4 * 3));
            }
            Readable::Image(kind, Place::Url(_)) => texts.push(unreadable(kind, None)),
            Readable::Pdf(Place::Data(data)) => {
                texts.push(described("application/pdf", None, data.len() / 4 * 3));
            }
            Readable::Pdf(Place::Url(_)) => texts.push(unreadable("application/pdf", None)),
        }
    }
    let text = texts.join("\n");
    (if images.is_empty() { said(text) } else { text }, images)
}

/// The blocks of MCP that `output` is: a list of objects with types, one of them a type of MCP or with data of some media type.
fn blocks(output: &Json) -> Option<Vec<Value>> {
    let blocks = serde_json::from_str::<Vec<Value>>(output.as_str()).ok()?;
    let tells = |block: &Value| block["mimeType"].is_string() && block["data"].is_string();
    let any = blocks.iter().any(|block| tells(block) || Block::known(block).is_some());
    (any && blocks.iter().all(|block| block["type"].is_string())).then_some(blocks)
}

/// A block that nobody here knows, without the data in it.
fn strange(mut block: Value) -> String {
    let (kind, media_type) = (block["type"].as_str(), block["mimeType"].as_str());
    let label = media_type.or(kind).unwrap_or_default().to_owned();
    without_data(&mut block, &label);
    block.to_string()
}

/// `value` with a sentence in the place of each text in it that is data.
fn without_data(value: &mut Value, label: &str) {
    let is_data = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte);
    match value {
        Value::String(text) if text.len() >= DATA_BYTES_MIN => {
            let inner = text.strip_prefix("data:").and_then(|url| url.split_once(";base64,"));
            let (label, data) = inner.unwrap_or((label, text));
            if data.bytes().all(is_data) {
                *text = described(label, None, data.len() / 4 * 3);
            }
        }
        Value::Object(all) => all.values_mut().for_each(|value| without_data(value, label)),
        Value::Array(all) => all.iter_mut().for_each(|value| without_data(value, label)),
        _ => {}
    }
}

fn said(text: String) -> String {
    if text.trim().is_empty() { NOTHING.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::PNG;

    fn data(media_type: &str, bytes: &[u8]) -> String {
        format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(bytes))
    }

    #[test]
    fn a_file_is_what_its_data_says() {
        let png = |kind: &str| format!("data:{kind};base64,{PNG}");
        let image = Readable::Image("image/png", Place::Data(PNG.to_owned()));
        for kind in ["image/png", "image/heic", "", "application/octet-stream;x=y"] {
            assert_eq!(Readable::of(kind, &png(kind), None), image, "{kind}");
        }
        let loose =
            format!("data:image/png;base64,{}\n", PNG.replace('=', "").replace("AAA", "A AA"));
        assert_eq!(Readable::of("image/png", &loose, None), image);
        for (kind, bytes) in [
            ("image/heic", &b"\0\0\0\x18ftypheic"[..]),
            ("image/svg+xml", b"<svg/>"),
            ("image/bmp", b"BM"),
            ("image/png", b"no picture"),
            ("image/png", b""),
            ("application/zip", b"PK"),
            ("text/plain", b"a\0b"),
            ("text/plain", b"\xFF"),
        ] {
            let then = Readable::Text(described(kind, Some("f"), bytes.len()));
            assert_eq!(Readable::of(kind, &data(kind, bytes), Some("f")), then, "{kind}");
        }
        let broken = Readable::of("image/png", "data:image/png;base64,?!", None);
        assert_eq!(broken, Readable::Text(unreadable("image/png", None)));
    }

    #[test]
    fn addresses_are_taken_at_their_word() {
        let url = "https://example.org/a";
        let place = Place::Url(url.to_owned());
        assert_eq!(
            Readable::of("image/jpg", url, None),
            Readable::Image("image/jpeg", place.clone())
        );
        assert_eq!(Readable::of("application/pdf", url, None), Readable::Pdf(place));
        for (kind, url) in
            [("image/heic", url), ("image/png", "file:///a"), ("image/png", "blob:x")]
        {
            assert_eq!(Readable::of(kind, url, None), Readable::Text(unreadable(kind, None)));
        }
    }

    #[test]
    fn texts_are_read() {
        let check = |kind: &str, name: Option<&str>, url: &str, then: &str| match Readable::of(
            kind, url, name,
        ) {
            Readable::Text(text) => assert!(text.contains(then), "{text}"),
            other => panic!("{other:?}"),
        };
        check(
            "text/csv",
            Some("a.csv"),
            &data("text/csv", b"a,b\n1,2"),
            "a.csv, text/csv]\na,b\n1,2\n[End",
        );
        check("application/json", None, &data("application/json", b"{}"), "\n{}\n");
        check("", Some("README.md"), "data:text/markdown,%23%20hi", "\n# hi\n");
        check("application/octet-stream", Some("README.md"), &data("", b"# hi"), "\n# hi\n");
        let long = data("text/plain", "é".repeat(TEXT_BYTES_MAX).as_bytes());
        check("text/plain", None, &long, "é\n[The rest is left out.]\n[End of file]");
    }

    #[test]
    fn results_are_text_and_pictures() {
        let read = |text: &str| result(&Json::parse(text).unwrap());
        assert_eq!(read(r#""a\nb""#), ("a\nb".to_owned(), vec![]));
        assert_eq!(read(r#"{"a":1}"#), (r#"{"a":1}"#.to_owned(), vec![]));
        assert_eq!(read(r#"[]"#), ("[]".to_owned(), vec![]));
        assert_eq!(read(r#""""#), (NOTHING.to_owned(), vec![]));
        let both = format!(
            r#"[{{"type":"text","text":"see"}},{{"type":"image","data":"{PNG}","mimeType":"image/png"}},{{"type":"image","data":"AA","mimeType":"image/bmp"}}]"#
        );
        let (text, images) = read(&both);
        assert_eq!(text, "see\n[A file that cannot be shown: without a name, image/bmp, 1 B]");
        assert_eq!(images, [("image/png", PNG.to_owned())]);
        let all = format!(
            r#"[{{"type":"image","data":"{PNG}","mimeType":"image/png"}},{{"type":"audio","data":"SUQz","mimeType":"audio/mpeg"}},
            {{"type":"resource","resource":{{"uri":"file:///a.md","mimeType":"text/markdown","text":"hi"}}}},
            {{"type":"resource","resource":{{"uri":"a.bin","mimeType":"application/zip","blob":"UEs="}}}},
            {{"type":"resource","resource":{{"uri":"b","mimeType":"image/png","blob":"{PNG}"}}}},
            {{"type":"resource_link","uri":"https://example.org/x","name":"x","mimeType":"text/plain"}},{{"type":"text","text":"end"}}]"#
        );
        let (text, images) = read(&all);
        assert_eq!(images.len(), 2);
        assert_eq!(
            text,
            "[A file that cannot be shown: without a name, audio/mpeg, 3 B]\n[File: file:///a.md]\nhi\n[End of file]\n\
             [A file that cannot be shown: a.bin, application/zip, 2 B]\n[A link: x, https://example.org/x]\nend"
        );
        let of_agents = format!(
            r#"[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{PNG}"}}}},{{"type":"image","source":{{"type":"url","url":"https://example.org/x"}}}}]"#
        );
        let (text, images) = read(&of_agents);
        assert_eq!(images, [("image/png", PNG.to_owned())]);
        assert!(text.contains("cannot be shown"), "{text}");
        let other = r#"[{"type":"row","text":"a"}]"#;
        assert_eq!(read(other).0, other);
    }

    #[test]
    fn blocks_that_nobody_knows_do_not_change_the_others() {
        let long = "QUJD".repeat(4_096);
        let image = format!(r#"{{"type":"image","data":"{PNG}","mimeType":"image/png"}}"#);
        for (strange, told) in [
            (
                format!(r#"{{"type":"video","data":"{long}","mimeType":"video/mp4"}}"#),
                "video/mp4, 12 KB",
            ),
            (format!(r#"{{"type":"chart","inner":[{{"bytes":"{long}"}}]}}"#), "chart, 12 KB"),
            (r#"{"type":"row","text":"a b"}"#.to_owned(), r#"{"text":"a b","type":"row"}"#),
            (r#"{"type":"image","data":5}"#.to_owned(), r#"{"data":5,"type":"image"}"#),
            (format!(r#"{{"type":"audio","data":["{long}"]}}"#), "audio, 12 KB"),
            (
                format!(
                    r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{long}"}}}}"#
                ),
                "image/png, 12 KB",
            ),
        ] {
            let text = r#"{"type":"text","text":"end"}"#;
            for (list, count) in [
                (format!("[{image},{strange},{text}]"), 1),
                (format!("[{strange},{text}]"), 0),
                (format!("[{text},{strange}]"), 0),
            ] {
                let (text, images) = result(&Json::parse(&list).unwrap());
                assert_eq!(images.len(), count, "{list}");
                assert!(text.contains(told) && text.contains("end"), "{text}");
                assert!(text.len() < 200, "{text}");
            }
        }
        let alone = format!(r#"[{{"type":"video","data":"{long}","mimeType":"video/mp4"}}]"#);
        assert!(result(&Json::parse(&alone).unwrap()).0.len() < 200);
    }
}
