//! What the result of an MCP call says.

use serde_json::Value;

use crate::base::json::Json;
use crate::tool::call::ToolOutcome;

/// The blocks as they came if a picture is among them, so that models can see it; else the structured result, else the text,
/// else the blocks; an error as its text. Blocks of any type are taken, also of types that nobody here knows.
pub(super) fn outcome(result: &Value, bytes_max: usize) -> ToolOutcome {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = blocks.iter().filter_map(text).collect();
    if result["isError"] == true {
        let text = texts.join("\n");
        return Err(match text.trim() {
            "" => "the tool failed without saying why".to_owned(),
            _ if text.len() > bytes_max => too_large(bytes_max),
            _ => text,
        });
    }
    let output = match result.get("structuredContent") {
        _ if blocks.iter().any(|block| block["type"] == "image") => Json::of(&blocks),
        Some(value) => Json::of(value),
        None if texts.len() == blocks.len() => Json::of(&texts.join("\n")),
        None => Json::of(&blocks),
    };
    let output = output.map_err(|error| format!("the tool's answer is not JSON: {error}"))?;
    if output.as_str().len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    // Checks how deep it is.
    Json::parse(output.as_str()).map_err(|error| format!("the tool's answer: {error}"))
}

fn text(block: &Value) -> Option<&str> {
    block["text"].as_str().filter(|_| block["type"] == "text")
}

fn too_large(bytes_max: usize) -> String {
    format!("the tool's answer is larger than {bytes_max} bytes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(result: &Value, then: Result<&Value, &str>) {
        let outcome = outcome(result, 1_000);
        let outcome = outcome.as_ref().map(|json| serde_json::from_str(json.as_str()).unwrap());
        assert_eq!(outcome.as_ref().map_err(|error| error.as_str()), then, "{result}");
    }

    #[test]
    fn results_are_read_whatever_blocks_they_have() {
        let text = json!({ "type": "text", "text": "a" });
        let image = json!({ "type": "image", "data": "AA", "mimeType": "image/png" });
        let video = json!({ "type": "video", "data": "AA", "mimeType": "video/mp4" });
        check(&json!({ "content": [text, text] }), Ok(&json!("a\na")));
        check(&json!({ "content": [text, video] }), Ok(&json!([text, video])));
        let both = json!({ "content": [text, image], "structuredContent": {} });
        check(&both, Ok(&json!([text, image])));
        let structured = json!({ "content": [text, video], "structuredContent": { "b": 1 } });
        check(&structured, Ok(&json!({ "b": 1 })));
        check(&json!({ "content": [] }), Ok(&json!("")));
        let why = "the tool failed without saying why";
        for (content, error) in
            [(json!([text, image]), "a"), (json!([video]), why), (json!([]), why)]
        {
            check(&json!({ "content": content, "isError": true }), Err(error));
        }
        let large = json!({ "type": "text", "text": "x".repeat(1_000) });
        let too_large = "the tool's answer is larger than 1000 bytes";
        check(&json!({ "content": [large] }), Err(too_large));
    }
}
