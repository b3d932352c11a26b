//! Trying a policy out without a store.

use super::context::{Context, Root};
use super::sanitize::Sanitizer;
use super::treated::Treated;
use crate::Result;
use crate::json::{Json, Object};

/// Treats one JSON value as it would be treated before it is written, and reports what was done:
/// `{"output":…,"treated":[{"path","detector","action","start","end"}]}`. What a store would seal is `[SEALED]`.
///
/// A member of an object whose name is that of a [`Root`] is treated as that root, except that `text` and arrays are
/// not if the object has other members too. Everything else is treated as arguments. Paths are those in the value as it
/// was given.
///
/// # Errors
/// As [`Sanitizer::treat`].
pub fn explain(sanitizer: &Sanitizer, value: Json) -> Result<Json> {
    let (output, treated) = dry_run(sanitizer, value)?;
    let treated: Vec<Json> = treated.iter().map(Treated::to_json).collect();
    Ok(Json::Object(Object::from_iter([("output", output), ("treated", Json::Array(treated))])))
}

/// The treated value and what was treated, with paths in the value as it was given.
///
/// # Errors
/// As [`Sanitizer::treat`].
pub fn dry_run(sanitizer: &Sanitizer, value: Json) -> Result<(Json, Vec<Treated>)> {
    let mut treated = Vec::new();
    let Json::Object(object) = value else {
        let mut value = value;
        treat(sanitizer, Root::Arguments, false, &mut value, &mut treated)?;
        return Ok((value, treated));
    };
    let (mut own, mut rest) = (Vec::new(), Object::new());
    // A page element's `text`, or a program's list of `arguments`, belongs to the members beside it.
    let whole = object.iter().all(|(key, _)| Root::from_name(key).is_some());
    for (key, mut value) in object {
        let is_root = |root: &Root| whole || *root != Root::Text && !matches!(value, Json::Array(_));
        match Root::from_name(&key).filter(is_root) {
            Some(root) => {
                treat(sanitizer, root, true, &mut value, &mut treated)?;
                own.push((key, value));
            }
            None => {
                rest.insert(key, value);
            }
        }
    }
    let mut rest = Json::Object(rest);
    treat(sanitizer, Root::Arguments, false, &mut rest, &mut treated)?;
    if let Json::Object(object) = &mut rest {
        for (key, value) in own {
            object.insert(key, value);
        }
    }
    Ok((rest, treated))
}

fn treat(s: &Sanitizer, root: Root, named: bool, value: &mut Json, treated: &mut Vec<Treated>) -> Result<()> {
    let mut context = Context::trying_out();
    s.treat(root, value, &mut context)?;
    treated.extend(context.into_treated().into_iter().map(|mut t| {
        if !named {
            let path = t.path.strip_prefix(root.name()).unwrap_or(&t.path);
            t.path = path.strip_prefix('.').unwrap_or(path).to_owned();
        }
        t
    }));
    Ok(())
}
