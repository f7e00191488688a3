//! Times at which something is due, as cron writes them. Pure.
//!
//! Five fields: minute, hour, day of the month, month, day of the week; in UTC, so that no hour of a year is there twice or
//! not at all. Written here because it is one page: the libraries there are bring macros, time zones or a field for seconds.

use chrono::{DateTime, Datelike as _, Days, TimeDelta, Timelike as _, Utc};

/// When something is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days are said: then one of them is enough, as everywhere.
    either_day: bool,
}

/// Days that are looked at: the rarest date, 29 February, comes back within eight years.
const HORIZON: u32 = 366 * 9;

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day", low: 1, high: 31, words: &[] },
    Field {
        name: "month",
        low: 1,
        high: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    // 7 is Sunday, too.
    Field { name: "weekday", low: 0, high: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Schedule {
    /// Reads `*/10 8-18 * * mon-fri`, or `@hourly`, `@daily`, `@weekly`, `@monthly`.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            other => other,
        };
        let parts: Vec<&str> = text.split_whitespace().collect();
        let Ok(parts) = <[&str; 5]>::try_from(parts) else {
            return Err("five fields are needed: minute, hour, day, month, weekday".to_owned());
        };
        let mut sets = [0; 5];
        for ((set, field), part) in sets.iter_mut().zip(&FIELDS).zip(parts) {
            *set = field.parse(part)?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let either_day = !parts[2].starts_with('*') && !parts[4].starts_with('*');
        let weekdays = weekdays & 0x7f | weekdays >> 7;
        let schedule = Self { minutes, hours, days, months, weekdays, either_day };
        match schedule.next(0) {
            Some(_) => Ok(schedule),
            None => Err("there is no such day".to_owned()),
        }
    }

    /// When it is due next, after a time; both in milliseconds since the Unix epoch.
    #[must_use]
    pub fn next(&self, after: u64) -> Option<u64> {
        let after = DateTime::<Utc>::from_timestamp_millis(i64::try_from(after).ok()?)?;
        let mut at = after.with_second(0)?.with_nanosecond(0)? + TimeDelta::minutes(1);
        for _ in 0..HORIZON {
            if self.has_day(&at) {
                while let Some(time) = self.in_hour(at) {
                    match time {
                        Ok(due) => return u64::try_from(due.timestamp_millis()).ok(),
                        Err(next_hour) if next_hour.date_naive() == at.date_naive() => at = next_hour,
                        Err(_) => break,
                    }
                }
            }
            at = at.date_naive().checked_add_days(Days::new(1))?.and_hms_opt(0, 0, 0)?.and_utc();
        }
        None
    }

    /// The next time in the hour of `at`, or else the hour behind it.
    fn in_hour(&self, at: DateTime<Utc>) -> Option<Result<DateTime<Utc>, DateTime<Utc>>> {
        if has(self.hours, at.hour())
            && let Some(minute) = (at.minute()..60).find(|minute| has(self.minutes, *minute))
        {
            return at.with_minute(minute).map(Ok);
        }
        Some(Err(at.with_minute(0)? + TimeDelta::hours(1)))
    }

    fn has_day(&self, at: &DateTime<Utc>) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().num_days_from_sunday());
        has(self.months, at.month()) && if self.either_day { day || weekday } else { day && weekday }
    }
}

fn has(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        let wrong = || format!("{text:?} is no {}: {} to {}", self.name, self.low, self.high);
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, number(step).filter(|step| *step > 0).ok_or_else(wrong)?),
                None => (part, 1),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.low, self.high),
                Some((from, to)) => (self.value(from).ok_or_else(wrong)?, self.value(to).ok_or_else(wrong)?),
                None => {
                    let from = self.value(range).ok_or_else(wrong)?;
                    (from, if part.contains('/') { self.high } else { from })
                }
            };
            if from > to {
                return Err(wrong());
            }
            for value in (from..=to).step_by(step as usize) {
                set |= 1 << value;
            }
        }
        Ok(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let value = match word {
            Some(at) => u32::try_from(at).ok()? + self.low,
            None => number(text)?,
        };
        (self.low..=self.high).contains(&value).then_some(value)
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let time = format!("{text}:00Z").parse::<DateTime<Utc>>().unwrap();
        u64::try_from(time.timestamp_millis()).unwrap()
    }

    fn next(schedule: &str, after: &str) -> String {
        let due = Schedule::parse(schedule).unwrap().next(at(after)).unwrap();
        let due = DateTime::<Utc>::from_timestamp_millis(i64::try_from(due).unwrap()).unwrap();
        due.format("%Y-%m-%dT%H:%M").to_string()
    }

    #[test]
    fn t1_a_schedule_is_due_when_cron_says_so() {
        for (schedule, after, due) in [
            ("* * * * *", "2026-11-21T22:00", "2026-11-21T22:01"),
            ("*/10 * * * *", "2026-11-21T22:10", "2026-11-21T22:20"),
            ("5/20 * * * *", "2026-11-21T22:46", "2026-11-21T23:05"),
            ("0 * * * *", "2026-12-31T23:00", "2027-01-01T00:00"),
            ("30 2 * * *", "2026-11-21T02:30", "2026-11-22T02:30"),
            ("0 9-17/4 * * mon-fri", "2026-11-20T17:01", "2026-11-23T09:00"),
            ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
            ("0 0 29 feb *", "2096-03-01T00:00", "2104-02-29T00:00"),
            ("0 0 31 * *", "2026-11-01T00:00", "2026-12-31T00:00"),
            ("0 0 * * 7", "2026-11-21T00:00", "2026-11-22T00:00"),
            ("0 0 * * SUN", "2026-11-21T00:00", "2026-11-22T00:00"),
            // The 13th, or a Friday.
            ("0 0 13 * fri", "2026-11-21T00:00", "2026-11-27T00:00"),
            ("15,45 0 1 1,7 *", "2026-07-01T00:15", "2026-07-01T00:45"),
            ("@monthly", "2026-11-21T00:00", "2026-12-01T00:00"),
        ] {
            assert_eq!(next(schedule, after), due, "{schedule} after {after}");
        }
    }

    #[test]
    fn t1_a_schedule_that_is_none_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "-1 * * * *",
            "1- * * * *",
            "1,,2 * * * *",
            "+1 * * * *",
            "99999999999 * * * *",
            "*/99999 * * * *",
            "@never",
            "0 0 31 2 *",
            "0 0 30 feb *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?}");
        }
    }
}
