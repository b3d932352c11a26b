//! Entries as a table in Arrow's columns, a batch at a time: what pandas, polars and pyarrow read without a copy in Python.

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, ListBuilder, StringBuilder, TimestampNanosecondBuilder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use attestlog::{Call, Entry, Hits};
use std::sync::Arc;

/// How many entries a batch has.
const BATCH: usize = 4096;
const UTC: &str = "UTC";

/// The entries of a query as a stream of batches.
pub struct Table {
    hits: Hits,
    schema: SchemaRef,
    done: bool,
}

impl Table {
    pub fn new(hits: Hits) -> Table {
        Table { hits, schema: schema(), done: false }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let mut columns = Columns::default();
        let mut entries = 0;
        for entry in self.hits.by_ref().take(BATCH) {
            columns.add(&entry.map_err(|e| ArrowError::ExternalError(Box::new(e)))?);
            entries += 1;
        }
        match entries {
            0 => Ok(None),
            _ => RecordBatch::try_new(self.schema.clone(), columns.finish()).map(Some),
        }
    }
}

impl Iterator for Table {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.batch().transpose();
        self.done = !matches!(batch, Some(Ok(_)));
        batch
    }
}

impl RecordBatchReader for Table {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

fn schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()));
    let text = |name| Field::new(name, DataType::Utf8, true);
    let texts = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    Arc::new(Schema::new(vec![
        Field::new("seq", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("timestamp", time(), false),
        Field::new("recorded_at", time(), false),
        text("conversation_id"),
        text("user_id"),
        text("tool_name"),
        text("tool_server"),
        text("model"),
        text("agent_id"),
        text("call_id"),
        text("purpose"),
        text("call_trigger"),
        text("outcome"),
        text("error_type"),
        text("error_message"),
        Field::new("success", DataType::Boolean, true),
        Field::new("duration_ms", DataType::Float64, true),
        Field::new("turn_number", DataType::UInt64, true),
        Field::new("patient_ids", texts, true),
        text("arguments"),
        text("result_summary"),
        text("line"),
    ]))
}

/// The columns that are texts of a call, between `recorded_at` and `success`.
const TEXTS: usize = 12;

struct Columns {
    seq: UInt64Builder,
    kind: StringBuilder,
    timestamp: TimestampNanosecondBuilder,
    recorded_at: TimestampNanosecondBuilder,
    texts: [StringBuilder; TEXTS],
    success: BooleanBuilder,
    duration_ms: Float64Builder,
    turn_number: UInt64Builder,
    patient_ids: ListBuilder<StringBuilder>,
    arguments: StringBuilder,
    result_summary: StringBuilder,
    line: StringBuilder,
}

impl Default for Columns {
    fn default() -> Columns {
        let time = || TimestampNanosecondBuilder::new().with_timezone(UTC);
        Columns {
            seq: UInt64Builder::new(),
            kind: StringBuilder::new(),
            timestamp: time(),
            recorded_at: time(),
            texts: std::array::from_fn(|_| StringBuilder::new()),
            success: BooleanBuilder::new(),
            duration_ms: Float64Builder::new(),
            turn_number: UInt64Builder::new(),
            patient_ids: ListBuilder::new(StringBuilder::new()),
            arguments: StringBuilder::new(),
            result_summary: StringBuilder::new(),
            line: StringBuilder::new(),
        }
    }
}

impl Columns {
    fn add(&mut self, entry: &Entry) {
        let call = entry.call();
        self.seq.append_value(entry.seq);
        self.kind.append_value(entry.kind().as_str());
        self.timestamp.append_value(entry.timestamp().nanos());
        self.recorded_at.append_value(entry.body.recorded_at.nanos());
        let texts = call.map_or([None; TEXTS], texts);
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        self.success.append_option(call.and_then(Call::success));
        self.duration_ms.append_option(call.and_then(Call::duration_ms));
        self.turn_number.append_option(call.and_then(|call| call.turn_number));
        for patient in call.iter().flat_map(|call| &call.patient_ids) {
            self.patient_ids.values().append_value(patient);
        }
        self.patient_ids.append(call.is_some());
        let ended = call.and_then(|call| call.completion.as_ref());
        self.arguments.append_option(call.and_then(|call| call.arguments.as_ref()).map(|json| json.as_str()));
        self.result_summary
            .append_option(ended.and_then(|ended| ended.result_summary.as_ref()).map(|json| json.as_str()));
        self.line.append_value(entry.line());
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(self.seq.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.timestamp.finish()),
            Arc::new(self.recorded_at.finish()),
        ];
        all.extend(self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        all.extend([
            Arc::new(self.success.finish()) as ArrayRef,
            Arc::new(self.duration_ms.finish()),
            Arc::new(self.turn_number.finish()),
            Arc::new(self.patient_ids.finish()),
            Arc::new(self.arguments.finish()),
            Arc::new(self.result_summary.finish()),
            Arc::new(self.line.finish()),
        ]);
        all
    }
}

/// The texts of a call, in the order of the schema.
fn texts(call: &Call) -> [Option<&str>; TEXTS] {
    let ended = call.completion.as_ref();
    let error = ended.and_then(|ended| ended.error.as_ref());
    [
        Some(&call.conversation_id),
        Some(&call.user_id),
        Some(&call.tool_name),
        call.tool_server.as_deref(),
        call.model.as_deref(),
        call.agent_id.as_deref(),
        call.call_id.as_deref(),
        call.purpose.as_deref(),
        call.trigger.map(|trigger| trigger.as_str()),
        ended.map(|ended| ended.outcome.as_str()),
        error.and_then(|error| error.kind.as_deref()),
        error.map(|error| error.message.as_str()),
    ]
}
