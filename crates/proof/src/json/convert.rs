//! Values of Rust as JSON, with the places at which something could not be kept as it was.
//!
//! Each type that goes in as [`Json`] goes in as [`Parsed`] too, which also says where: an integer beyond 2^53-1, a number that is no
//! number, a text with NUL. What takes a call's arguments or results takes [`Parsed`], so that these marks are kept however a
//! value comes in.

use super::{Json, Number, Object, Parsed, Path, Repr};

impl From<&str> for Json {
    fn from(s: &str) -> Json {
        Json::String(s.to_owned())
    }
}

impl From<String> for Json {
    fn from(s: String) -> Json {
        Json::String(s)
    }
}

impl From<bool> for Json {
    fn from(b: bool) -> Json {
        Json::Bool(b)
    }
}

impl From<u32> for Json {
    fn from(n: u32) -> Json {
        Json::Number(Number(Repr::Int(n.into())))
    }
}

impl From<u64> for Json {
    /// An integer beyond 2^53-1 becomes a string of its digits.
    fn from(n: u64) -> Json {
        match i64::try_from(n).ok().and_then(Number::from_i64) {
            Some(n) => Json::Number(n),
            None => Json::String(n.to_string()),
        }
    }
}

impl From<Object> for Json {
    fn from(o: Object) -> Json {
        Json::Object(o)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(items: Vec<T>) -> Json {
        Json::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(item: Option<T>) -> Json {
        item.map_or(Json::Null, Into::into)
    }
}

impl From<i64> for Json {
    /// An integer beyond ±(2^53-1) becomes a string of its digits.
    fn from(n: i64) -> Json {
        Number::from_i64(n).map_or_else(|| Json::String(n.to_string()), Json::Number)
    }
}

impl From<i32> for Json {
    fn from(n: i32) -> Json {
        Json::Number(Number(Repr::Int(n.into())))
    }
}

impl From<f64> for Json {
    /// What is no number (NaN, infinite) becomes a string of its name.
    fn from(x: f64) -> Json {
        Number::from_f64(x).map_or_else(|| Json::String(x.to_string()), Json::Number)
    }
}

impl From<serde_json::Value> for Json {
    /// Numbers as those of Rust; see [`Parsed`] for the places at which digits would have been lost.
    fn from(value: serde_json::Value) -> Json {
        Parsed::from(value).value
    }
}

impl From<Json> for Parsed {
    fn from(value: Json) -> Parsed {
        Parsed { value, restated: Vec::new() }
    }
}

/// Of each of these what its JSON is, and that nothing had to be restated.
macro_rules! kept {
    ($($of:ty),*) => {$(
        impl From<$of> for Parsed {
            fn from(value: $of) -> Parsed {
                Json::from(value).into()
            }
        }
    )*};
}

/// Of each of these numbers what its JSON is; it was restated where that is a string.
macro_rules! numbers {
    ($($of:ty),*) => {$(
        impl From<$of> for Parsed {
            fn from(number: $of) -> Parsed {
                let value = Json::from(number);
                let restated = if matches!(value, Json::String(_)) { vec![Path::root()] } else { Vec::new() };
                Parsed { value, restated }
            }
        }
    )*};
}

kept!(&str, String, bool, u32, i32, Object);
numbers!(u64, i64, f64);

impl<T: Into<Parsed>> From<Vec<T>> for Parsed {
    fn from(items: Vec<T>) -> Parsed {
        let mut restated = Vec::new();
        let item = |(i, item): (usize, T)| {
            let Parsed { value, restated: inside } = item.into();
            restated.extend(inside.iter().map(|path| path.inside(&Path::root().index(i))));
            value
        };
        let value = Json::Array(items.into_iter().enumerate().map(item).collect());
        Parsed { value, restated }
    }
}

impl<T: Into<Parsed>> From<Option<T>> for Parsed {
    fn from(item: Option<T>) -> Parsed {
        item.map_or_else(|| Json::Null.into(), Into::into)
    }
}

impl From<serde_json::Value> for Parsed {
    fn from(value: serde_json::Value) -> Parsed {
        let mut restated = Vec::new();
        let value = from_serde(value, &mut Path::root(), &mut restated);
        Parsed { value, restated }
    }
}

fn from_serde(value: serde_json::Value, at: &mut Path, restated: &mut Vec<Path>) -> Json {
    match value {
        serde_json::Value::Null => Json::Null,
        serde_json::Value::Bool(b) => b.into(),
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Number(number) => {
            let json = match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(n), ..) => n.into(),
                (None, Some(n), _) => n.into(),
                (None, None, Some(x)) => x.into(),
                (None, None, None) => Json::String(number.to_string()),
            };
            if matches!(json, Json::String(_)) {
                restated.push(at.clone());
            }
            json
        }
        serde_json::Value::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (i, item) in items.into_iter().enumerate() {
                at.push_index(i);
                out.push(from_serde(item, at, restated));
                at.pop();
            }
            Json::Array(out)
        }
        serde_json::Value::Object(members) => {
            let member = |(key, member): (String, _)| {
                at.push_key(&key);
                let member = from_serde(member, at, restated);
                at.pop();
                (key, member)
            };
            Json::Object(members.into_iter().map(member).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that had parsed a call's arguments itself lost the marks of numbers whose digits a double does not keep.
    #[test]
    fn what_a_double_does_not_keep_is_named_however_it_comes_in() {
        let value =
            serde_json::json!({"id": 9_007_199_254_740_993_u64, "list": [1, -9_223_372_036_854_775_808_i64, 0.5]});
        let parsed = Parsed::from(value);
        assert_eq!(
            parsed.value.to_canonical().as_str(),
            r#"{"id":"9007199254740993","list":[1,"-9223372036854775808",0.5]}"#
        );
        let paths: Vec<String> = parsed.restated.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["id", "list[1]"]);
        assert_eq!(Parsed::from(vec![1_u64, u64::MAX]).restated, [Path::root().index(1)]);
        assert_eq!(Parsed::from(f64::NAN).restated, [Path::root()]);
        assert_eq!(Parsed::from(7_u64), Parsed::from(Json::from(7_u64)));
    }
}
