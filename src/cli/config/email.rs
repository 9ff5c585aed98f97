//! E-mail settings of the process.

use std::{
    env, fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;
use lettre::{Address, message::Mailbox};
use time::Time;
use url::Url;

use crate::{
    domain::mailing::{EmailMode, Mailing, Window},
    mail::{
        Authorities, Options, Presentation, Provider, Proxy, Rate, Secret, SendGrid, Smtp,
        SmtpServer, TemplateOptions, Templates, Unsubscribe,
    },
    settings::parse,
    store::emails::LanguageColumn,
};

/// How e-mails are sent while they are enabled.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "E-mail")]
pub struct EmailConfig {
    /// Mode of players without a preference: `immediate` is one e-mail per notification, `digest` one a day
    #[arg(long, env = "HEIST_EMAIL_MODE", value_name = "MODE", default_value = "immediate", value_parser = mode)]
    email_mode: Mode,

    /// Period in which digests are sent, in UTC; default: 18:00-20:00
    #[arg(long, env = "HEIST_EMAIL_DIGEST_WINDOW", value_name = "FROM-TO", value_parser = window)]
    email_digest_window: Option<Window>,

    /// The provider, `sendgrid` or `smtp`; default: the one that is configured
    #[arg(long, env = "HEIST_EMAIL_PROVIDER", value_name = "PROVIDER", value_parser = provider)]
    email_provider: Option<ProviderName>,

    /// Certificate authorities, in PEM, that are trusted besides the public ones
    #[arg(long, env = "HEIST_EMAIL_CA_FILE", value_name = "FILE")]
    email_ca_file: Option<PathBuf>,

    /// The sender, such as `Heists <heists@example.com>`
    #[arg(long, env = "HEIST_EMAIL_FROM", value_name = "ADDRESS", value_parser = sender)]
    email_from: Option<Mailbox>,

    /// Base URL of the application, for links to `/notifications`; default: no links
    #[arg(long, env = "HEIST_EMAIL_LINK_BASE", value_name = "URL", value_parser = web_url)]
    email_link_base: Option<Url>,

    /// Unsubscribe link, a URL with `{user_id}` and `{signature}` or a `mailto:` address
    #[arg(long, env = "HEIST_EMAIL_UNSUBSCRIBE_URL", value_name = "URL", value_parser = Unsubscribe::check)]
    email_unsubscribe_url: Option<String>,

    /// Key of `{signature}`, which is the HMAC-SHA256 of the player's id in hexadecimal
    #[arg(long, env = "HEIST_EMAIL_UNSUBSCRIBE_KEY", value_name = "KEY", hide_env_values = true, value_parser = secret)]
    email_unsubscribe_key: Option<Secret>,

    #[command(flatten)]
    templates: TemplateConfig,

    /// Column of the application's "User" that holds a player's language, such as `locale`
    #[arg(long, env = "HEIST_EMAIL_LANGUAGE_COLUMN", value_name = "COLUMN", value_parser = LanguageColumn::parse)]
    email_language_column: Option<LanguageColumn>,

    /// Maximum number of e-mails per minute, for all replicas together
    #[arg(long, env = "HEIST_EMAIL_RATE_PER_MINUTE", value_name = "EMAILS", default_value = "600", value_parser = rate)]
    email_rate_per_minute: Rate,

    /// SendGrid API key with the right to send
    #[arg(long, env = "SENDGRID_API_KEY", value_name = "KEY", hide_env_values = true, value_parser = secret)]
    sendgrid_api_key: Option<Secret>,

    /// Time limit of a request to SendGrid; a number without a unit is in milliseconds
    #[arg(long, env = "SENDGRID_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = sendgrid_timeout)]
    sendgrid_timeout: Duration,

    /// Base URL of SendGrid's API, such as `https://api.eu.sendgrid.com`
    #[arg(long, env = "SENDGRID_BASE_URL", value_name = "URL", default_value = "https://api.sendgrid.com", value_parser = web_url)]
    sendgrid_base_url: Url,

    /// HTTP proxy for connections to SendGrid, such as `http://proxy.example.com:3128`
    #[arg(
        long,
        env = "HTTPS_PROXY",
        value_name = "URL",
        hide_env_values = true,
        default_value = ""
    )]
    https_proxy: String,

    /// Hosts that are reached without the proxy, separated by commas; `*` for all
    #[arg(long, env = "NO_PROXY", value_name = "HOSTS", default_value = "")]
    no_proxy: String,

    /// SMTP server, such as `smtps://user:password@host` (TLS) or `smtp://user:password@host` (STARTTLS)
    #[arg(long, env = "HEIST_EMAIL_SMTP_URL", value_name = "URL", hide_env_values = true, value_parser = SmtpServer::parse)]
    email_smtp_url: Option<SmtpServer>,

    /// Name of this client in SMTP's EHLO; default: the domain of the sender
    #[arg(long, env = "HEIST_EMAIL_SMTP_HELLO", value_name = "NAME", value_parser = host_name)]
    email_smtp_hello: Option<String>,

    /// Time limit of an attempt over SMTP
    #[arg(long, env = "HEIST_EMAIL_SMTP_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    email_smtp_timeout: Duration,
}

/// The templates of e-mails.
#[derive(Clone, Debug, clap::Args)]
pub struct TemplateConfig {
    /// Folder with templates that replace the built-in ones, with a sub-folder for each language
    #[arg(long, env = "HEIST_EMAIL_TEMPLATES", value_name = "FOLDER")]
    email_templates: Option<PathBuf>,

    /// Language of players without a language
    #[arg(
        long,
        env = "HEIST_EMAIL_LANGUAGE",
        value_name = "LANGUAGE",
        default_value = "en"
    )]
    email_language: String,
}

impl TemplateConfig {
    /// # Errors
    ///
    /// One line for each problem of a template.
    pub fn load(&self) -> Result<Templates, String> {
        Templates::load(self.email_templates.as_deref(), &self.email_language)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Immediate,
    Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProviderName {
    #[value(name = "sendgrid")]
    SendGrid,
    Smtp,
}

impl EmailConfig {
    /// # Errors
    ///
    /// Names the missing setting, or the settings that contradict each other.
    pub fn options(self) -> Result<Options, String> {
        let mailing = self.mailing();
        let from = (self.email_from.clone())
            .ok_or("HEIST_EMAIL_FROM is not set, and HEIST_EMAIL_ENABLED=true needs it")?;
        let provider = self.provider(&from)?;
        let unsubscribe = match (self.email_unsubscribe_url, self.email_unsubscribe_key) {
            (Some(url), key) => Some(
                Unsubscribe::new(&url, key)
                    .map_err(|error| format!("HEIST_EMAIL_UNSUBSCRIBE_URL={url}: {error}"))?,
            ),
            (None, Some(_)) => {
                return Err(
                    "HEIST_EMAIL_UNSUBSCRIBE_KEY needs HEIST_EMAIL_UNSUBSCRIBE_URL".to_owned(),
                );
            }
            (None, None) => None,
        };
        Ok(Options {
            mailing,
            provider,
            rate: self.email_rate_per_minute,
            presentation: Presentation {
                from,
                link_base: self.email_link_base,
                unsubscribe,
            },
            templates: TemplateOptions {
                folder: self.templates.email_templates,
                default_language: self.templates.email_language,
                language_column: self.email_language_column,
            },
        })
    }

    fn mailing(&self) -> Mailing {
        let default_mode = match self.email_mode {
            Mode::Immediate => EmailMode::Immediate,
            Mode::Digest => EmailMode::Digest,
        };
        Mailing {
            default_mode,
            window: self.email_digest_window.unwrap_or(Window::DEFAULT),
        }
    }

    /// An empty value means no proxy, as for other programs. They also read the names in lower case.
    fn proxy_for(&self, host: &str) -> Result<Option<Proxy>, String> {
        let lower_case = |value: &str, name| match value {
            "" => env::var(name).unwrap_or_default(),
            value => value.to_owned(),
        };
        let url = lower_case(&self.https_proxy, "https_proxy");
        let excluded = lower_case(&self.no_proxy, "no_proxy");
        if url.is_empty() || Proxy::is_excluded(&excluded, host) {
            return Ok(None);
        }
        (Proxy::parse(&url).map(Some)).map_err(|error| format!("HTTPS_PROXY: {error}"))
    }

    fn provider(&self, from: &Mailbox) -> Result<Provider, String> {
        let named = match (
            self.email_provider,
            &self.sendgrid_api_key,
            &self.email_smtp_url,
        ) {
            (Some(named), _, _) => named,
            (None, Some(_), None) => ProviderName::SendGrid,
            (None, None, Some(_)) => ProviderName::Smtp,
            (None, Some(_), Some(_)) => {
                return Err("SENDGRID_API_KEY and HEIST_EMAIL_SMTP_URL are both set: set HEIST_EMAIL_PROVIDER to sendgrid or smtp".to_owned());
            }
            (None, None, None) => {
                return Err(
                    "HEIST_EMAIL_ENABLED=true needs SENDGRID_API_KEY or HEIST_EMAIL_SMTP_URL"
                        .to_owned(),
                );
            }
        };
        let authorities = match &self.email_ca_file {
            Some(file) => fs::read(file)
                .map_err(|error| error.to_string())
                .and_then(|pem| Authorities::parse(&pem))
                .map_err(|error| format!("HEIST_EMAIL_CA_FILE={}: {error}", file.display()))?,
            None => Authorities::default(),
        };
        match named {
            ProviderName::SendGrid => {
                let key = (self.sendgrid_api_key.clone())
                    .ok_or("HEIST_EMAIL_PROVIDER=sendgrid needs SENDGRID_API_KEY")?;
                let base_url = self.sendgrid_base_url.clone();
                let host = base_url.host_str().unwrap_or_default();
                let proxy = self.proxy_for(host)?;
                SendGrid::new(base_url, &authorities, proxy, key, self.sendgrid_timeout)
                    .map(Provider::SendGrid)
                    .map_err(|error| format!("SENDGRID_BASE_URL: {error}"))
            }
            ProviderName::Smtp => {
                let server = (self.email_smtp_url.clone())
                    .ok_or("HEIST_EMAIL_PROVIDER=smtp needs HEIST_EMAIL_SMTP_URL")?;
                let timeout = self.email_smtp_timeout;
                let hello = self.email_smtp_hello.clone();
                Ok(Provider::Smtp(Smtp {
                    server,
                    hello: hello.unwrap_or_else(|| from.email.domain().to_owned()),
                    authorities,
                    timeout,
                }))
            }
        }
    }
}

fn mode(value: &str) -> Result<Mode, String> {
    Mode::from_str(value, false).map_err(|_| "expected immediate or digest".to_owned())
}

fn provider(value: &str) -> Result<ProviderName, String> {
    ProviderName::from_str(value, false).map_err(|_| "expected sendgrid or smtp".to_owned())
}

fn window(value: &str) -> Result<Window, String> {
    value
        .split_once('-')
        .and_then(|(opens, closes)| Window::new(time_of_day(opens)?, time_of_day(closes)?))
        .ok_or_else(|| {
            "expected two times of day in UTC, at least 15 minutes apart, such as 18:00-20:00"
                .to_owned()
        })
}

fn time_of_day(value: &str) -> Option<Time> {
    let (hour, minute) = value.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    Time::from_hms(number(hour)?, number(minute)?, 0).ok()
}

/// The domain is converted to ASCII (IDNA), so that message ids and EHLO are ASCII.
fn sender(value: &str) -> Result<Mailbox, String> {
    let parsed: Option<Mailbox> = value.parse().ok();
    parsed
        .and_then(|mailbox| {
            let domain = idna::domain_to_ascii(mailbox.email.domain()).ok()?;
            let address = Address::new(mailbox.email.user(), domain).ok()?;
            Some(Mailbox::new(mailbox.name, address))
        })
        .ok_or_else(|| {
            "expected an address such as heists@example.com or Heists <heists@example.com>"
                .to_owned()
        })
}

fn host_name(value: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        let is_character = |it: u8| it.is_ascii_alphanumeric() || b".-".contains(&it);
        (1..=253).contains(&name.len()) && name.bytes().all(is_character)
    };
    let literal = (value.strip_prefix('[')).and_then(|it| it.strip_suffix(']'));
    let is_literal = literal.is_some_and(|it| {
        it.parse::<Ipv4Addr>().is_ok()
            || (it.strip_prefix("IPv6:")).is_some_and(|it| it.parse::<Ipv6Addr>().is_ok())
    });
    (is_name(value) || is_literal)
        .then(|| value.to_owned())
        .ok_or_else(|| "expected a host name such as heist.example.com, or [192.0.2.1]".to_owned())
}

fn web_url(value: &str) -> Result<Url, String> {
    Url::parse(value)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http"))
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .ok_or_else(|| "expected a URL such as https://app.example.com".to_owned())
}

fn secret(value: &str) -> Result<Secret, String> {
    let printable = !value.is_empty() && value.bytes().all(|it| it.is_ascii_graphic());
    printable
        .then(|| Secret::new(value))
        .ok_or_else(|| "expected printable ASCII characters without spaces".to_owned())
}

fn rate(value: &str) -> Result<Rate, String> {
    parse::whole_number(value, 1..=100_000).map(Rate::per_minute)
}

/// A number without a unit is in milliseconds, as in the application's existing configuration.
fn sendgrid_timeout(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(milliseconds) => in_range(Duration::from_millis(milliseconds)),
        Err(_) => timeout(value),
    }
}

fn timeout(value: &str) -> Result<Duration, String> {
    parse::duration(value).and_then(in_range)
}

fn in_range(timeout: Duration) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_mins(10);
    (range.contains(&timeout).then_some(timeout))
        .ok_or_else(|| "expected a duration from 100ms to 10m, such as 30s".to_owned())
}
