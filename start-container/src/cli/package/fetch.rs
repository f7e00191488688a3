//! For the operator: a request to a function or template of a package, and its response.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use protocol::function::{FetchParams, FetchResult, Header, MAX_FUNCTION_REQUEST};
use protocol::{Data, ErrorKind};

use super::decide::connect;
use super::{Context, output};
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The path is one that a urlFunction or template entry of the manifest has. What answers runs in the package's sandbox; nothing
listens anywhere. The body of the response is printed, for a terminal without what moves its cursor. Ends with 0 for a status
below 400, with 1 for others.

  start-container package fetch notes /hello
  start-container package fetch notes '/notes?tag=a' -i
  start-container package fetch notes /notes -X POST -H 'content-type: application/json' --data '{\"title\":\"Mine\"}'
  start-container package fetch notes /import -X PUT --data @notes.json")]
pub(in crate::cli) struct Fetch {
    /// The package
    id: String,
    /// The path, with a query if there is one
    path: String,
    /// The method [default: GET, with --data POST]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// A header; may be there more than once
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// What is sent; @FILE for a file's content, 512 KiB at most
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// Print status and headers, too
    #[arg(short, long)]
    include: bool,
}

impl Fetch {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let method = self.method.or_else(|| self.data.is_some().then(|| "POST".to_owned()));
        let params = FetchParams {
            package_id: self.id,
            path: self.path,
            method,
            headers: self.header.iter().map(|text| header(text)).collect::<Result<_>>()?,
            body: self.data.map(body).transpose()?.unwrap_or_default(),
        };
        let result: FetchResult = connect(context)?.call("package.fetch", &params)?;
        let code = if result.status < 400 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        if context.json {
            output::json(&result)?;
            return Ok(code);
        }
        if self.include {
            output::line(&result.status.to_string());
            for (name, value) in &result.headers {
                output::line(&format!("{name}: {}", output::plain(value)));
            }
            output::line("");
        }
        let bytes = result.body.into_bytes().unwrap_or_default();
        if std::io::stdout().is_terminal() {
            // A package's words, on the operator's terminal.
            String::from_utf8_lossy(&bytes).lines().for_each(|line| output::line(&output::plain(line)));
        } else {
            output::raw(&bytes);
        }
        Ok(code)
    }
}

fn header(text: &str) -> Result<Header> {
    let (name, value) = text.split_once(':').ok_or_else(|| {
        Failure::new(ErrorKind::Invalid, "read header", text)
            .because(std::io::Error::other("it is written NAME: VALUE"))
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn body(data: String) -> Result<Data> {
    use std::io::Read as _;
    let Some(path) = data.strip_prefix('@') else { return Ok(Data::Text(data)) };
    let mut bytes = Vec::new();
    let mut file = super::open(path.as_ref())?.take(MAX_FUNCTION_REQUEST as u64 + 1);
    file.read_to_end(&mut bytes)
        .map_err(|error| Failure::new(ErrorKind::Kernel, "read", path).because(error))?;
    Ok(bytes.into())
}
