//! Query strings: read into a type, and if that fails, told by the name of the parameter and what it takes.

use std::future::Ready;
use std::future::ready;

use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::schema::Type;

use crate::base::nearest;
use crate::http::error::ApiError;

/// A query string.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned + IntoParams> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Self))
    }
}

fn read<T: DeserializeOwned + IntoParams>(query: &str) -> Result<T, ApiError> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let reader = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let name = error.path().to_string();
        ApiError::invalid(explain(query, &name, &T::into_params(|| None)))
    })
}

/// What is wrong with the query, of which the parameter `name` could not be read.
fn explain(query: &str, name: &str, known: &[Parameter]) -> String {
    let mut seen = Vec::new();
    for (given, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(parameter) = known.iter().find(|known| known.name == given) else {
            let names = known.iter().map(|known| known.name.as_str());
            let hint = match nearest(&given, names.clone()) {
                Some(meant) => format!(", did you mean `{meant}`?"),
                None => format!(": the path takes {}", listed(names)),
            };
            return format!("there is no parameter `{given}`{hint}");
        };
        if seen.contains(&given) {
            return format!("`{given}` is given twice");
        }
        if given == name {
            let (wanted, example) = wanted(parameter);
            return format!("`{name}` must be {wanted}, as in `?{name}={example}`, not `{value}`");
        }
        seen.push(given);
    }
    let names = known.iter().map(|known| known.name.as_str());
    format!("the query is not acceptable: the path takes {}", listed(names))
}

/// What a parameter takes, in words, and an example.
fn wanted(parameter: &Parameter) -> (String, String) {
    let other = || ("a text".to_owned(), "x".to_owned());
    let Some(schema) = &parameter.schema else { return other() };
    let values = values(schema);
    if let Some(example) = values.first() {
        return (listed_or(values.iter().map(String::as_str)), example.clone());
    }
    let RefOr::T(Schema::Object(object)) = schema else { return other() };
    let is = |kind: &Type| match &object.schema_type {
        SchemaType::Type(one) => one == kind,
        SchemaType::Array(several) => several.contains(kind),
        SchemaType::AnyValue => false,
    };
    if is(&Type::Integer) {
        ("a whole number".to_owned(), "25".to_owned())
    } else if is(&Type::Boolean) {
        ("`true` or `false`".to_owned(), "true".to_owned())
    } else {
        other()
    }
}

/// The values of a closed set.
fn values(schema: &RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let values = object.enum_values.iter().flatten();
            values.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
        }
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.iter().flat_map(values).collect(),
        _ => Vec::new(),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn listed_or<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, IntoParams)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[expect(dead_code, reason = "only read")]
        after: Option<u64>,
        #[expect(dead_code, reason = "only read")]
        #[param(inline)]
        order: Option<crate::http::messages::Order>,
    }

    #[test]
    fn a_parameter_that_is_wrong_is_named_with_what_it_takes() {
        for (query, told) in [
            ("after=x", "`after` must be a whole number, as in `?after=25`, not `x`"),
            ("after=-1", "`after` must be a whole number, as in `?after=25`, not `-1`"),
            ("order=up", "`order` must be `asc` or `desc`, as in `?order=asc`, not `up`"),
            ("afer=1", "there is no parameter `afer`, did you mean `after`?"),
            ("colour=1", "there is no parameter `colour`: the path takes `after`, `order`"),
            ("after=1&after=2", "`after` is given twice"),
        ] {
            let error = read::<Asked>(query).map(|_| ()).expect_err(query);
            assert_eq!(error.to_string(), told);
        }
        assert!(read::<Asked>("").is_ok());
    }
}
