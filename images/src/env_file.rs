//! Environment files: one `NAME=value` a line, as `docker run --env-file` and StartOS read them.
//!
//! That form has no place for a newline inside a value. A variable that holds one is written as
//! `#json "NAME=value"`, the whole in JSON: to every other reader a comment (it misses that variable, and is not
//! led to take a line of a private key for one), to [`parse`] the variable. A literal `#` at the head of a name is
//! not possible in this form anyway.

const JSON: &str = "#json ";

/// The variables (`NAME=value`) as a file.
pub fn render(env: &[String]) -> String {
    let mut file = String::new();
    for variable in env {
        if variable.contains(['\n', '\r'])
            || variable.starts_with(|first: char| first == '#' || first.is_whitespace())
        {
            file.push_str(JSON);
            // Display of a JSON string escapes all control characters.
            file.push_str(&serde_json::Value::from(variable.as_str()).to_string());
        } else {
            file.push_str(variable);
        }
        file.push('\n');
    }
    file
}

/// The variables in a file, in order, as (name, value). Empty lines, comments, and lines without `=` say nothing.
pub fn parse(file: &str) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for line in file.lines() {
        let decoded;
        let variable = if let Some(json) = line.strip_prefix(JSON) {
            match serde_json::from_str::<String>(json) {
                Ok(text) => {
                    decoded = text;
                    decoded.as_str()
                }
                Err(_) => continue,
            }
        } else if line.starts_with('#') {
            continue;
        } else {
            line
        };
        if let Some((name, value)) = variable.split_once('=').filter(|(name, _)| !name.is_empty()) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_env_files_keep_newlines_and_equals_signs() {
        let env = ["A=1", "KEY=-----BEGIN\r\nB=2\n", "C=x=y # not a comment", "D=", "#E=f", " G=h"]
            .map(String::from);
        let file = render(&env);
        assert_eq!(file.lines().count(), env.len(), "each is one line to any reader");
        let read: Vec<_> = parse(&file).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(read, env);
    }

    #[test]
    fn i4_env_files_of_others_are_read() {
        let read = parse("# comment\n\nA=1\nnot a variable\n=x\n");
        assert_eq!(read, [("A".to_owned(), "1".to_owned())]);
    }
}
