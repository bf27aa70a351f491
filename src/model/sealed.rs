//! What an answer holds for the one who gave it: each seal names the model whose it is. Another one, even of the same provider,
//! refuses a request in which it finds it, and one message can hold the words of two.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::Answer;
use super::ModelError;
use super::ModelEvent;
use super::lawful::is_plain_id;
use crate::base::json::Object;

/// The member of a seal with the model's name.
const MODEL: &str = "model";

/// Whether `model` may be given what is under `seal`. Those that name nobody were judged by whose the message is.
pub(super) fn is_of(seal: &Object, model: &str) -> bool {
    seal.text(MODEL).is_none_or(|of| of == model)
}

/// `answer`, with the name of `model` in all that only `model` reads, strange ids of its calls included.
pub(super) fn named(answer: Answer, model: &str) -> Answer {
    let (model, mut strange) = (model.to_owned(), HashSet::new());
    Box::pin(answer.flat_map(move |event| stream::iter(name(event, &model, &mut strange))))
}

fn name(
    event: Result<ModelEvent, ModelError>,
    model: &str,
    strange: &mut HashSet<u32>,
) -> Vec<Result<ModelEvent, ModelError>> {
    let sign = |seal: Object| seal.with(MODEL, &model);
    let event = match event {
        Ok(ModelEvent::ReasoningEnd { index, seal }) if !seal.is_empty() => {
            ModelEvent::ReasoningEnd { index, seal: sign(seal) }
        }
        Ok(ModelEvent::RedactedReasoning { index, data }) => {
            let seal = sign(Object::default().with("redactedData", &data));
            let start = ModelEvent::ReasoningStart { index };
            return vec![Ok(start), Ok(ModelEvent::ReasoningEnd { index, seal })];
        }
        Ok(ModelEvent::ToolStart { index, id, name }) => {
            if !is_plain_id(&id) {
                strange.insert(index);
            }
            ModelEvent::ToolStart { index, id, name }
        }
        Ok(ModelEvent::ToolEnd { index, input, seal }) => {
            let strange = strange.remove(&index);
            let seal = if strange || !seal.is_empty() { sign(seal) } else { seal };
            ModelEvent::ToolEnd { index, input, seal }
        }
        other => return vec![other],
    };
    vec![Ok(event)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json::Json;
    use crate::model::Content;
    use crate::model::ModelMessage;
    use crate::model::ModelRequest;
    use crate::model::Speaker;
    use crate::model::accepted;

    fn said(speaker: Speaker, content: Vec<Content>) -> ModelMessage {
        ModelMessage { speaker, content }
    }

    /// What `answer` gives for the next request, as it is stored.
    async fn stored(events: Vec<ModelEvent>, model: &str) -> Vec<Content> {
        let answer: Answer = Box::pin(stream::iter(events.into_iter().map(Ok)));
        let events: Vec<_> = named(answer, model).collect().await;
        let content = events.into_iter().filter_map(|event| match event.unwrap() {
            ModelEvent::ReasoningEnd { seal, .. } => {
                Some(Content::Reasoning { text: "thought".to_owned(), seal: Some(seal) })
            }
            ModelEvent::ToolEnd { input, seal, .. } => Some(Content::ToolCall {
                id: "ours".to_owned(),
                name: "t".to_owned(),
                input: input.unwrap(),
                seal: seal.with("callId", &"own.call:0"),
            }),
            _ => None,
        });
        content.collect()
    }

    fn request(answer: Vec<Content>) -> ModelRequest {
        let result = Content::ToolResult {
            id: "ours".to_owned(),
            name: "t".to_owned(),
            output: Json::string("done"),
            is_error: false,
        };
        let question = said(Speaker::User, vec![Content::Text("hello".to_owned())]);
        let answer = said(Speaker::Assistant, answer);
        accepted::request(None, vec![question, answer, said(Speaker::User, vec![result])], &[])
    }

    #[tokio::test]
    async fn what_one_model_gave_goes_to_no_other_of_its_provider() {
        let secret =
            || Object::default().with("signature", &"SECRET").with("extra_content", &"SECRET");
        let thought = secret().with("reasoningEncryptedContent", &"SECRET");
        let events = vec![
            ModelEvent::ReasoningStart { index: 0 },
            ModelEvent::ReasoningEnd { index: 0, seal: thought },
            ModelEvent::RedactedReasoning { index: 1, data: "SECRET".to_owned() },
            ModelEvent::ToolStart { index: 2, id: "own.call:0".to_owned(), name: "t".to_owned() },
            ModelEvent::ToolEnd { index: 2, input: Ok(Json::default()), seal: Object::default() },
        ];
        for (model, told) in [("model-x", true), ("model-y", false)] {
            let content = stored(events.clone(), model).await;
            assert_eq!(content.len(), 3);
            let request = request(content);
            assert_eq!(request.model, "model-x");
            let problems = accepted::problems(&request);
            assert!(problems.is_empty(), "{problems:?}");
            let bodies = accepted::bodies(&request);
            assert_eq!(bodies.iter().any(|body| body.contains("SECRET")), told, "{bodies:?}");
            for body in bodies {
                assert_eq!(body.contains("own.call:0"), told, "{body}");
                assert!(told || !body.contains("\"thought\""), "{body}");
                assert!(!body.contains("model-y"), "{body}");
            }
        }
    }
}
