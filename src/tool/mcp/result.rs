//! What the result of an MCP call says.

use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;

use crate::base::json::Json;
use crate::tool::call::ToolOutcome;

/// The blocks as they came if a picture is among them, so that models can see it; else the structured result, else the text,
/// else the blocks; an error as its text.
pub(super) fn outcome(result: &CallToolResult, bytes_max: usize) -> ToolOutcome {
    let texts: Option<Vec<&str>> = result.content.iter().map(text).collect();
    if result.is_error == Some(true) {
        let text = texts.map(|texts| texts.join("\n")).filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| "the tool failed without saying why".to_owned());
        return Err(if text.len() > bytes_max { too_large(bytes_max) } else { text });
    }
    let is_image = |block: &ContentBlock| matches!(block, ContentBlock::Image(_));
    let output = match (&result.structured_content, texts) {
        _ if result.content.iter().any(is_image) => Json::of(&result.content),
        (Some(value), _) => Json::of(value),
        (None, Some(texts)) => Json::of(&texts.join("\n")),
        (None, None) => Json::of(&result.content),
    };
    let output = output.map_err(|error| format!("the tool's answer is not JSON: {error}"))?;
    if output.as_str().len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    // Checks how deep it is.
    Json::parse(output.as_str()).map_err(|error| format!("the tool's answer: {error}"))
}

fn text(block: &ContentBlock) -> Option<&str> {
    match block {
        ContentBlock::Text(text) => Some(&text.text),
        _ => None,
    }
}

fn too_large(bytes_max: usize) -> String {
    format!("the tool's answer is larger than {bytes_max} bytes")
}
