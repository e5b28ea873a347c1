#define _POSIX_C_SOURCE 200809L

#include "earshot.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef EARSHOT_ORT_HEADER
#include <onnxruntime_c_api.h>
#else
#include "ort_abi.h"
#endif

#define REACH_SECONDS 0.24 /* how far the sound of a word may reach into the gaps beside it */
#define LEAST_SCORE 0.01   /* of a typed keyword: no peak is lower */

enum { MOST_STATES = 32, MOST_TENSORS = MOST_STATES + 2, MOST_DIMENSIONS = 8, CARD_SCHEMA = 5 };

/* The output `phonemes`: the blank, the boundary between words, then each phoneme of CMUdict. In the
 * card these are one letter each, see asr/phonemes.py. */
enum { SOUND_BLANK, BOUNDARY, FIRST_PHONEME, PHONEMES = 39, SOUNDS = FIRST_PHONEME + PHONEMES };
static const char *const NAMES[PHONEMES] = {
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY",
    "UH", "UW", "B",  "D",  "G",  "K",  "P",  "T",  "CH", "JH", "DH", "F",  "S",
    "SH", "TH", "V",  "Z",  "ZH", "HH", "L",  "M",  "N",  "NG", "R",  "W",  "Y"};
static const char LETTERS[] = "a@AcWYEReIioOUubdgkptCJDfsSTvzZhlmnGrwy";

typedef struct { /* a label on a path, in frames; end is exclusive */
    int label;
    long start, end;
} span;

typedef struct { /* the spans of a word; to is exclusive */
    int from, to;
} part;

typedef struct { /* labels, of letters or of phonemes, and the best path through them */
    int length, *states; /* labels with a blank between any two */
    double *best;        /* of all paths that end in a state now */
    long *starts;        /* the frames in which they began */
} spelling;

typedef struct { /* a typed keyword */
    char *text;
    double threshold;
    spelling letters, *said; /* said: its pronunciations, if they are known */
    int said_count;
    double *sounds; /* how well they fitted the newest `confirm` frames, the oldest first */
    double *scores; /* of the newest frames, the oldest first; where each began */
    long *begun;
} keyword;

typedef struct { /* where a typed keyword fits best; end is exclusive */
    const keyword *of;
    double score;
    long start, end;
} peak;

typedef struct { /* of the model card */
    char **labels;
    char *silent; /* for each label, whether it is in the background */
    float *thresholds; /* of each label */
    int label_count, ctc, blank, separator, spells, phonemes; /* phonemes: whether it reads them */
    int sample_rate, hop, block, look_ahead, closing; /* closing: silence that ends a stream */
    double smoothing, refractory, onset, scale, offset;
    double trailing_silence, soft_limit, hard_limit;
    double confirm, linger, spotting_refractory, spotting_threshold; /* of typed keywords */
} card;

struct earshot {
    const OrtApi *ort;
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    card card;
    earshot_callback callback;
    void *user;
    char error[512];

    size_t state_count; /* two of each state: one is read while the other is written */
    char *names[MOST_TENSORS], *next_names[MOST_TENSORS];
    float *states[2][MOST_STATES];
    size_t sizes[MOST_STATES];
    OrtValue *inputs[2][MOST_TENSORS], *outputs[2][MOST_TENSORS];
    float *pcm, *log_probs, *phonemes; /* phonemes: the second output, if the model has it */
    int side, frames; /* which states are read; rows of the outputs */

    size_t waiting; /* samples in pcm */
    long long samples, stepped, frame;

    float *recent; /* rows of the trigger, a ring; where each ends */
    long long *recent_ends;
    int recent_room, recent_first, recent_count;
    char *fired;
    long long quiet_until;

    span *spans; /* of the open utterance */
    int span_count, last_label;
    long first_frame, silent_frames, length;
    long pause, soft, hard;
    float *rows; /* its log-probabilities */
    part *parts;
    earshot_word *words;
    double *forward; /* of a word, for each state of its paths */
    char *text, *word_text;

    keyword *keywords; /* typed ones, if any: then no words are written down */
    int keyword_count, confirm, spotting_refractory; /* in frames */
    double *costs, sound_costs[SOUNDS]; /* of each label and phoneme in the newest frame */
    peak *peaks; /* peaks that are not judged yet, in order of their ends */
    int peak_count, has_fired;
    peak last_fired;
};

/* ---- the card: just enough of JSON ---- */

static const char *skip(const char *at) { /* to the end of a value */
    int depth = 0;
    for (; *at; at++) {
        if (*at == '"') {
            for (at++; *at && *at != '"'; at++)
                if (*at == '\\' && at[1]) at++;
            if (!*at) return at;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth-- == 0) return at;
        } else if (*at == ',' && depth == 0) {
            return at;
        }
    }
    return at;
}

static const char *blanks(const char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
    return at;
}

static const char *field(const char *object, const char *name) { /* its value, or NULL */
    size_t length = strlen(name);
    if (!object || *object != '{') return NULL;
    for (const char *at = blanks(object + 1); *at == '"'; at = blanks(at + 1)) {
        const char *end = at + 1;
        while (*end && *end != '"') end++;
        int found = (size_t)(end - at - 1) == length && !strncmp(at + 1, name, length);
        if (!*end || *(at = blanks(end + 1)) != ':') return NULL;
        at = blanks(at + 1);
        if (found) return at;
        at = skip(at);
        if (*at != ',') return NULL;
    }
    return NULL;
}

static int number(const char *object, const char *name, double *out) {
    const char *at = field(object, name);
    char *end;
    if (!at) return 0;
    *out = strtod(at, &end);
    return end != at;
}

static int integer(const char *object, const char *name, int *out) {
    double value;
    if (!number(object, name, &value)) return 0;
    *out = (int)value;
    return 1;
}

static char *put_utf8(char *out, unsigned code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

static char *string(const char *at) { /* a copy of what stands between quotes, or NULL */
    const char *end = at;
    if (*at != '"') return NULL;
    for (end = ++at; *end && *end != '"'; end++)
        if (*end == '\\' && end[1]) end++;
    char *text = malloc((size_t)(end - at) + 1), *out = text;
    if (!text) return NULL;
    for (; at < end; at++) {
        if (*at != '\\') {
            *out++ = *at;
        } else if (*++at == 'u') {
            unsigned code = 0;
            if (end - at < 5 || sscanf(at + 1, "%4x", &code) != 1) break;
            out = put_utf8(out, code);
            at += 4;
        } else {
            const char *from = "ntrbf", *to = "\n\t\r\b\f", *found = strchr(from, *at);
            *out++ = found ? to[found - from] : *at;
        }
    }
    *out = 0;
    return text;
}

static int characters(const char *text) { /* of UTF-8 */
    int count = 0;
    for (; *text; text++) count += (*text & 0xC0) != 0x80;
    return count;
}

static int read_labels(card *c, const char *json) {
    const char *list = field(json, "labels"), *silent = field(json, "background");
    if (!list || *list != '[' || !silent || *silent != '[') return 0;
    for (const char *at = list + 1; *(at = blanks(at)) == '"'; at++) {
        c->label_count++;
        if (*(at = skip(at)) != ',') break;
    }
    c->labels = calloc((size_t)c->label_count + 1, sizeof *c->labels);
    c->silent = calloc((size_t)c->label_count + 1, 1);
    if (!c->labels || !c->silent) return 0;
    const char *at = list + 1;
    for (int k = 0; k < c->label_count; k++, at++) {
        if (!(c->labels[k] = string(at = blanks(at)))) return 0;
        at = skip(at);
    }
    for (at = silent + 1; *(at = blanks(at)) == '"'; at++) {
        char *name = string(at);
        for (int k = 0; name && k < c->label_count; k++)
            if (!strcmp(name, c->labels[k])) c->silent[k] = 1;
        free(name);
        if (*(at = skip(at)) != ',') break;
    }
    return c->label_count > 0;
}

/* Whether the model reads phonemes; 0 if they are others than this version knows. */
static int read_phonemes(card *c, const char *json) {
    const char *list = field(json, "phonemes");
    int count = 0;
    if (!list || *list != '[') return !list;
    for (const char *at = list + 1; *(at = blanks(at)) == '"'; at++) {
        int place = count++ - FIRST_PHONEME;
        if (place >= PHONEMES || (place >= 0 && (at[1] != LETTERS[place] || at[2] != '"'))) return 0;
        if (*(at = skip(at)) != ',') break;
    }
    c->phonemes = count > 0;
    return count == 0 || count == SOUNDS;
}

static int read_thresholds(card *c, const char *json) { /* of labels of their own, or of all */
    const char *own = field(field(json, "alarms"), "thresholds");
    double common;
    if (!number(field(json, "trigger"), "threshold", &common)) return 0;
    c->thresholds = calloc((size_t)c->label_count, sizeof *c->thresholds);
    for (int k = 0; c->thresholds && k < c->label_count; k++) {
        double threshold = common;
        number(own, c->labels[k], &threshold);
        c->thresholds[k] = (float)threshold;
    }
    return c->thresholds != NULL;
}

static int read_card(card *c, const char *json) {
    const char *task = field(json, "task");
    int schema;
    if (!task || !integer(json, "schema", &schema) || schema != CARD_SCHEMA) return 0;
    c->ctc = !strncmp(task, "\"ctc\"", 5);
    if (!read_labels(c, json) || !integer(json, "sample_rate", &c->sample_rate) ||
        !integer(json, "hop_length", &c->hop) || !integer(json, "block_length", &c->block) ||
        !integer(json, "look_ahead", &c->look_ahead) || c->hop < 1 || c->block < c->hop)
        return 0;
    const char *trigger = field(json, "trigger"), *endpoint = field(json, "endpoint");
    if (!c->ctc) {
        int window;
        if (!number(trigger, "smoothing", &c->smoothing) || !integer(json, "window_length", &window)) return 0;
        c->closing = (int)llround(c->smoothing * c->sample_rate) + window / 2;
        return read_thresholds(c, json) && number(trigger, "refractory", &c->refractory);
    }
    c->separator = -1;
    c->spells = 1;
    if (!integer(json, "blank", &c->blank) || !read_phonemes(c, json)) return 0;
    for (int k = 0; k < c->label_count; k++) {
        if (!strcmp(c->labels[k], " ")) c->separator = k;
        if (k != c->blank && characters(c->labels[k]) != 1) c->spells = 0;
    }
    const char *calibration = field(json, "calibration"), *spotting = field(json, "spotting");
    return number(calibration, "onset", &c->onset) && number(calibration, "scale", &c->scale) &&
           number(calibration, "offset", &c->offset) &&
           number(endpoint, "trailing_silence", &c->trailing_silence) &&
           number(endpoint, "soft_limit", &c->soft_limit) &&
           number(endpoint, "hard_limit", &c->hard_limit) &&
           number(spotting, "confirm", &c->confirm) && number(spotting, "linger", &c->linger) &&
           number(spotting, "refractory", &c->spotting_refractory) &&
           number(spotting, "threshold", &c->spotting_threshold);
}

/* ---- opening ---- */

static int ok(earshot *e, OrtStatus *status) {
    if (!status) return 1;
    snprintf(e->error, sizeof e->error, "%s", e->ort->GetErrorMessage(status));
    e->ort->ReleaseStatus(status);
    return 0;
}

static int fail(earshot *e, const char *reason) {
    snprintf(e->error, sizeof e->error, "%s", reason);
    return 0;
}

static int open_session(earshot *e, const char *path) {
    const OrtApi *ort = e->ort;
    OrtSessionOptions *options = NULL;
    setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* read when the environment is made */
    int done = ok(e, ort->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "earshot", &e->env)) &&
               ok(e, ort->CreateSessionOptions(&options)) &&
               ok(e, ort->SetIntraOpNumThreads(options, 1)) &&
               ok(e, ort->SetInterOpNumThreads(options, 1)) &&
               ok(e, ort->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_FATAL)) &&
               ok(e, ort->CreateSession(e->env, path, options, &e->session)) &&
               ok(e, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &e->memory)) &&
               ok(e, ort->GetAllocatorWithDefaultOptions(&e->allocator));
    if (options) ort->ReleaseSessionOptions(options);
    return done;
}

/* ---- keywords that are typed ---- */

static int fail_about(earshot *e, const char *name, const char *reason) {
    snprintf(e->error, sizeof e->error, "keyword '%s' %s", name, reason);
    return 0;
}

/* Where brackets that open here end, or NULL. */
static const char *closing(const char *at, const char *to) {
    if (*at != '(') return NULL;
    do at++;
    while (at < to && *at != '(' && *at != ')');
    return at < to && *at == ')' ? at : NULL;
}

/* A copy in lower case, as far as it is ASCII, with one space between words; what is in brackets is
 * left out. */
static char *normal(const char *from, const char *to) {
    char *text = malloc((size_t)(to - from) + 1), *out = text;
    for (const char *at = from, *end; text && at < to; at++) {
        if ((end = closing(at, to))) at = end;
        if (!end && !isspace((unsigned char)*at))
            *out++ = (char)tolower((unsigned char)*at);
        else if (out > text && out[-1] != ' ')
            *out++ = ' ';
    }
    if (text) out[out > text && out[-1] == ' ' ? -1 : 0] = 0;
    return text;
}

static int open_spelling(spelling *s, size_t room, int blank) {
    size_t states = 2 * room + 1;
    s->states = calloc(states, sizeof *s->states);
    s->best = calloc(states, sizeof *s->best);
    s->starts = calloc(states, sizeof *s->starts);
    for (size_t k = 0; s->states && k < states; k++) s->states[k] = blank;
    return s->states && s->best && s->starts;
}

static void append(spelling *s, int label) { s->states[2 * s->length++] = label; }

static void reset_spelling(spelling *s) {
    for (int k = 0; k < 2 * s->length; k++) s->best[k] = -INFINITY;
    memset(s->starts, 0, 2 * (size_t)s->length * sizeof *s->starts);
}

static void close_spelling(spelling *s) {
    free(s->states);
    free(s->best);
    free(s->starts);
}

static void close_keyword(keyword *word) {
    close_spelling(&word->letters);
    for (int k = 0; k < word->said_count; k++) close_spelling(word->said + k);
    free(word->said);
    free(word->text);
    free(word->sounds);
    free(word->scores);
    free(word->begun);
}

static int label_of(const card *c, const char *unit, size_t length) { /* or -1 */
    for (int k = 0; k < c->label_count; k++)
        if ((!c->ctc || k != c->blank) && strlen(c->labels[k]) == length &&
            !strncmp(c->labels[k], unit, length))
            return k;
    return -1;
}

/* The labels of a keyword, characters or words, without separators, which make no sound. */
static int spell(earshot *e, keyword *word) {
    const card *c = &e->card;
    spelling *letters = &word->letters;
    if (!open_spelling(letters, strlen(word->text), c->blank)) return fail(e, "out of memory");
    for (const char *at = word->text, *end; *at; at = end) {
        for (end = at + 1; c->spells ? (*end & 0xC0) == 0x80 : *end && *end != ' ';) end++;
        int label = label_of(c, at, (size_t)(end - at));
        if (label < 0) return fail_about(e, word->text, "has what the model cannot say; respell it");
        if (!c->spells && *end) end++;
        if (label != c->separator) append(letters, label);
    }
    return letters->length > 0 || fail_about(e, word->text, "has nothing to say; respell it");
}

/* The same labels: the same keyword, but for separators. */
static int is_there(const earshot *e, const keyword *word) {
    const spelling *own = &word->letters;
    for (int k = 0; k < e->keyword_count; k++) {
        const spelling *other = &e->keywords[k].letters;
        if (own->length == other->length &&
            !memcmp(own->states, other->states, 2 * (size_t)own->length * sizeof *own->states))
            return 1;
    }
    return 0;
}

static int phoneme_of(const char *name, size_t length) { /* or -1 */
    while (length && strchr("012", name[length - 1])) length--; /* stress */
    for (int k = 0; k < PHONEMES; k++)
        if (strlen(NAMES[k]) == length && !strncasecmp(NAMES[k], name, length))
            return FIRST_PHONEME + k;
    return -1;
}

/* Read what is in brackets, "L UW1 M OW S". */
static int pronounce(earshot *e, keyword *word, const char *from, const char *to) {
    spelling *said = word->said + word->said_count++;
    if (!open_spelling(said, (size_t)(to - from), SOUND_BLANK)) return fail(e, "out of memory");
    for (const char *at = from, *end; at < to; at = end + 1) {
        for (end = at; end < to && !isspace((unsigned char)*end);) end++;
        if (end == at) continue;
        int phoneme = phoneme_of(at, (size_t)(end - at));
        if (phoneme < 0) {
            snprintf(e->error, sizeof e->error, "keyword '%s': '%.*s' is no phoneme of CMUdict",
                     word->text, (int)(end - at), at);
            return 0;
        }
        append(said, phoneme);
    }
    return said->length > 0 || fail_about(e, word->text, "has an empty pronunciation");
}

static int read_pronunciations(earshot *e, keyword *word, const char *from, const char *to) {
    size_t room = 1;
    for (const char *at = from; at < to; at++) room += *at == '(';
    if (!(word->said = calloc(room, sizeof *word->said))) return fail(e, "out of memory");
    for (const char *at = from, *end; at < to; at++) {
        if (!(end = closing(at, to))) continue;
        if (!pronounce(e, word, at + 1, end)) return 0;
        at = end;
    }
    return 1;
}

/* Leave a model that was trained on its keywords this one; those that are not named never fire. */
static int choose(earshot *e, const char *text, const double *threshold, float *thresholds) {
    const card *c = &e->card;
    for (int k = 0; k < c->label_count; k++) {
        char *name = normal(c->labels[k], c->labels[k] + strlen(c->labels[k]));
        int found = name && !c->silent[k] && !strcmp(name, text);
        free(name);
        if (!found) continue;
        if (!isinf(thresholds[k])) return fail_about(e, text, "is there twice; leave one out");
        thresholds[k] = threshold ? (float)*threshold : c->thresholds[k];
        return 1;
    }
    return fail_about(e, text, "is none that the model has learnt");
}

/* Read one of "operator, wild fire=0.8, lumos (L UW M OW S)". */
static int read_keyword(earshot *e, const char *from, const char *to, const char *json,
                        float *thresholds) {
    const char *sign = from;
    while (sign < to && *sign != '=' && *sign != ':') sign++;
    keyword word = {.text = normal(from, sign), .threshold = e->card.spotting_threshold};
    char *end = NULL;
    double threshold = sign < to ? strtod(sign + 1, &end) : 0.0;
    int given = sign < to, done;
    if (!word.text) return fail(e, "out of memory");
    while (given && end < to && isspace((unsigned char)*end)) end++;
    if (given && (end != to || !(threshold > 0.0 && threshold <= 1.0))) {
        done = fail_about(e, word.text, "has a threshold that is not in (0, 1]");
    } else if ((done = read_pronunciations(e, &word, from, sign)) && !e->card.ctc) {
        done = choose(e, word.text, given ? &threshold : NULL, thresholds);
    } else if (done) {
        number(field(field(json, "alarms"), "thresholds"), word.text, &word.threshold);
        if (given) word.threshold = threshold;
        done = spell(e, &word);
        if (done && is_there(e, &word))
            done = fail_about(e, word.text, "is there twice; leave one out");
    }
    if (done && e->card.ctc)
        e->keywords[e->keyword_count++] = word;
    else
        close_keyword(&word);
    return done;
}

static int read_keywords(earshot *e, const char *list, const char *json) {
    const card *c = &e->card;
    size_t count = 1;
    int found = 0, done = 1;
    for (const char *at = list; *at; at++) count += *at == ',';
    float *thresholds = calloc((size_t)c->label_count, sizeof *thresholds);
    if (!thresholds) return fail(e, "out of memory");
    if (c->ctc) e->keywords = calloc(count, sizeof *e->keywords);
    if (c->ctc && !e->keywords) done = fail(e, "out of memory");
    for (int k = 0; k < c->label_count; k++) thresholds[k] = INFINITY;
    for (const char *at = list, *end; done && at; at = *end ? end + 1 : NULL) {
        end = at + strcspn(at, ",");
        if (at + strspn(at, " \t\r\n") >= end) continue;
        done = read_keyword(e, at, end, json, thresholds);
        found++;
    }
    if (!c->ctc) {
        free(e->card.thresholds);
        e->card.thresholds = thresholds;
    } else {
        free(thresholds);
    }
    return done && (found || fail(e, "a keyword is missing; give them as in 'operator, fire=0.8'"));
}

static int open_card(earshot *e, const char *keywords) {
    OrtModelMetadata *metadata = NULL;
    char *json = NULL;
    int done = ok(e, e->ort->SessionGetModelMetadata(e->session, &metadata)) &&
               ok(e, e->ort->ModelMetadataLookupCustomMetadataMap(metadata, e->allocator, "earshot",
                                                                  &json));
    if (done && (!json || !read_card(&e->card, json)))
        done = fail(e, "no model card of this version for a streaming model; export it again");
    if (done && keywords) done = read_keywords(e, keywords, json);
    if (json && !ok(e, e->ort->AllocatorFree(e->allocator, json))) done = 0;
    if (metadata) e->ort->ReleaseModelMetadata(metadata);
    return done;
}

static int tensor(earshot *e, float *data, const int64_t *shape, size_t rank, OrtValue **out) {
    size_t count = 1;
    for (size_t k = 0; k < rank; k++) count *= (size_t)shape[k];
    return ok(e, e->ort->CreateTensorWithDataAsOrtValue(e->memory, data, count * sizeof *data, shape,
                                                        rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                        out));
}

static int state_shape(earshot *e, size_t input, int64_t *shape, size_t *rank) {
    const OrtTensorTypeAndShapeInfo *info;
    OrtTypeInfo *type = NULL;
    int done = ok(e, e->ort->SessionGetInputTypeInfo(e->session, input, &type)) &&
               ok(e, e->ort->CastTypeInfoToTensorInfo(type, &info)) &&
               ok(e, e->ort->GetDimensionsCount(info, rank)) &&
               (*rank <= MOST_DIMENSIONS || fail(e, "a state has too many dimensions")) &&
               ok(e, e->ort->GetDimensions(info, shape, *rank));
    if (type) e->ort->ReleaseTypeInfo(type);
    shape[0] = 1;
    return done;
}

static char *copied(const char *prefix, const char *text) {
    char *made = malloc(strlen(prefix) + strlen(text) + 1);
    if (made) strcat(strcpy(made, prefix), text);
    return made;
}

static int open_state(earshot *e, size_t k) {
    int64_t shape[MOST_DIMENSIONS];
    size_t rank;
    char *name = NULL;
    if (!state_shape(e, k + 1, shape, &rank) ||
        !ok(e, e->ort->SessionGetInputName(e->session, k + 1, e->allocator, &name)))
        return 0;
    e->names[k + 1] = copied("", name);
    e->next_names[k + 1] = copied("next_", name);
    if (!ok(e, e->ort->AllocatorFree(e->allocator, name))) return 0;
    e->sizes[k] = 1;
    for (size_t d = 0; d < rank; d++) e->sizes[k] *= (size_t)shape[d];
    for (int side = 0; side < 2; side++) {
        e->states[side][k] = calloc(e->sizes[k], sizeof(float));
        if (!e->states[side][k] || !e->names[k + 1] || !e->next_names[k + 1])
            return fail(e, "out of memory");
        if (!tensor(e, e->states[side][k], shape, rank, &e->inputs[side][k + 1]) ||
            !tensor(e, e->states[side][k], shape, rank, &e->outputs[1 - side][k + 1]))
            return 0;
    }
    return 1;
}

static int open_spotter(earshot *e) {
    const card *c = &e->card;
    double frame_seconds = (double)c->hop / c->sample_rate;
    e->confirm = (int)fmax(1.0, nearbyint(c->confirm / frame_seconds));
    e->spotting_refractory = (int)nearbyint(c->spotting_refractory / frame_seconds);
    e->costs = calloc((size_t)c->label_count, sizeof *e->costs);
    e->peaks = calloc((size_t)e->keyword_count + 1, sizeof *e->peaks);
    size_t recent = 2 * (size_t)e->confirm + 1;
    int done = e->costs && e->peaks;
    for (keyword *word = e->keywords; done && word < e->keywords + e->keyword_count; word++) {
        word->sounds = calloc((size_t)e->confirm, sizeof *word->sounds);
        word->scores = calloc(recent, sizeof *word->scores);
        word->begun = calloc(recent, sizeof *word->begun);
        done = word->sounds && word->scores && word->begun;
    }
    return done || fail(e, "out of memory");
}

static void reset_spotter(earshot *e) {
    size_t recent = 2 * (size_t)e->confirm + 1;
    e->peak_count = e->has_fired = 0;
    for (keyword *word = e->keywords; word < e->keywords + e->keyword_count; word++) {
        reset_spelling(&word->letters);
        for (int k = 0; k < word->said_count; k++) reset_spelling(word->said + k);
        memset(word->sounds, 0, (size_t)e->confirm * sizeof *word->sounds);
        memset(word->scores, 0, recent * sizeof *word->scores);
        memset(word->begun, 0, recent * sizeof *word->begun);
    }
}

static void close_spotter(earshot *e) {
    for (int k = 0; k < e->keyword_count; k++) close_keyword(e->keywords + k);
    free(e->keywords);
    free(e->costs);
    free(e->peaks);
}

static int open_phonemes(earshot *e) { /* behind the states */
    int64_t shape[] = {1, e->frames, SOUNDS};
    size_t place = e->state_count + 1;
    e->phonemes = calloc((size_t)e->frames * SOUNDS, sizeof *e->phonemes);
    e->next_names[place] = copied("", "phonemes");
    if (!e->phonemes || !e->next_names[place]) return fail(e, "out of memory");
    return tensor(e, e->phonemes, shape, 3, &e->outputs[0][place]) &&
           tensor(e, e->phonemes, shape, 3, &e->outputs[1][place]);
}

static int open_tensors(earshot *e) {
    const card *c = &e->card;
    size_t count;
    e->frames = c->block / c->hop;
    int64_t sound[] = {1, c->block}, scores[] = {1, e->frames, c->label_count};
    e->pcm = calloc((size_t)c->block, sizeof *e->pcm);
    e->log_probs = calloc((size_t)e->frames * (size_t)c->label_count, sizeof *e->log_probs);
    e->names[0] = copied("", "pcm");
    e->next_names[0] = copied("", "log_probs");
    if (!e->pcm || !e->log_probs || !e->names[0] || !e->next_names[0])
        return fail(e, "out of memory");
    for (int side = 0; side < 2; side++)
        if (!tensor(e, e->pcm, sound, 2, &e->inputs[side][0]) ||
            !tensor(e, e->log_probs, scores, 3, &e->outputs[side][0]))
            return 0;
    if (!ok(e, e->ort->SessionGetInputCount(e->session, &count))) return 0;
    if (count > MOST_STATES) return fail(e, "the model has too many states");
    e->state_count = count - 1;
    for (size_t k = 0; k < e->state_count; k++)
        if (!open_state(e, k)) return 0;
    return !c->phonemes || open_phonemes(e);
}

static int open_decoder(earshot *e) {
    const card *c = &e->card;
    double frame_seconds = (double)c->hop / c->sample_rate;
    e->pause = (long)ceil(c->trailing_silence / frame_seconds);
    e->soft = lround(c->soft_limit / frame_seconds);
    e->hard = lround(c->hard_limit / frame_seconds);
    e->recent_room = (int)(c->smoothing * c->sample_rate / c->block) + 2;
    size_t longest = 1;
    for (int k = 0; k < c->label_count; k++)
        if (strlen(c->labels[k]) > longest) longest = strlen(c->labels[k]);
    size_t rows = (size_t)e->recent_room, spans = (size_t)e->hard + 1;
    e->recent = calloc(rows * (size_t)c->label_count, sizeof *e->recent);
    e->recent_ends = calloc(rows, sizeof *e->recent_ends);
    e->fired = calloc((size_t)c->label_count, 1);
    e->spans = calloc(spans, sizeof *e->spans);
    e->rows = calloc(spans * (size_t)c->label_count, sizeof *e->rows);
    e->parts = calloc(spans, sizeof *e->parts);
    e->words = calloc(spans, sizeof *e->words);
    e->forward = calloc(2 * spans + 1, sizeof *e->forward);
    e->text = calloc(spans, longest + 1);
    e->word_text = calloc(spans, longest + 1);
    return (e->recent && e->recent_ends && e->fired && e->spans && e->rows && e->parts &&
            e->words && e->forward && e->text && e->word_text) ||
           fail(e, "out of memory");
}

earshot *earshot_open(const char *path, earshot_callback callback, void *user, char *error,
                      size_t error_size) {
    return earshot_open_keywords(path, NULL, callback, user, error, error_size);
}

earshot *earshot_open_keywords(const char *path, const char *keywords, earshot_callback callback,
                               void *user, char *error, size_t error_size) {
    earshot *e = calloc(1, sizeof *e);
    if (!e) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    e->callback = callback;
    e->user = user;
    e->ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!e->ort) {
        snprintf(error, error_size, "this onnxruntime is too old");
        free(e);
        return NULL;
    }
    if (!open_session(e, path) || !open_card(e, keywords) || !open_tensors(e) || !open_decoder(e) ||
        !open_spotter(e)) {
        snprintf(error, error_size, "%s: %s", path, e->error);
        earshot_close(e);
        return NULL;
    }
    earshot_reset(e);
    return e;
}

/* ---- from scores to events ---- */

static void emit(earshot *e, const earshot_event *event) {
    if (e->callback) e->callback(event, e->user);
}

/* Keywords: fire when a smoothed posterior crosses the threshold. reached: where the sound is, with
 * the silence that is scored after its end. */
static void trigger(earshot *e, const float *row, long long end, long long reached) {
    const card *c = &e->card;
    long long smoothing = llround(c->smoothing * c->sample_rate);
    int at = (e->recent_first + e->recent_count) % e->recent_room, best = -1;
    for (int k = 0; k < c->label_count; k++)
        e->recent[at * c->label_count + k] = expf(row[k]);
    e->recent_ends[at] = reached;
    e->recent_count++;
    while (e->recent_count > 1 && e->recent_ends[e->recent_first] <= reached - smoothing) {
        e->recent_first = (e->recent_first + 1) % e->recent_room;
        e->recent_count--;
    }
    float highest = 0;
    for (int k = 0; k < c->label_count; k++) {
        float sum = 0;
        for (int n = 0; n < e->recent_count; n++)
            sum += e->recent[(e->recent_first + n) % e->recent_room * c->label_count + k];
        float mean = sum / (float)e->recent_count;
        int above = mean >= c->thresholds[k] && !c->silent[k];
        e->fired[k] = e->fired[k] && above; /* below the threshold it is armed again */
        if (above && !e->fired[k] && mean > highest) {
            best = k;
            highest = mean;
        }
    }
    if (best < 0 || reached < e->quiet_until) return;
    e->fired[best] = 1;
    e->quiet_until = reached + llround(c->refractory * c->sample_rate);
    earshot_event event = {.kind = EARSHOT_DETECTION, .text = c->labels[best], .score = highest};
    event.time = (double)end / c->sample_rate;
    emit(e, &event);
}

static double log_add(double a, double b) { /* log(exp(a) + exp(b)) */
    double high = a > b ? a : b, low = a > b ? b : a;
    return high == -INFINITY ? high : high + log1p(exp(low - high));
}

/* The log-probability that the rows from `start` to `end` read a word and nothing else, over all
 * paths of CTC; at both ends of a word the separator reads nothing, as a blank. */
static double reading(earshot *e, part word, long start, long end) {
    const card *c = &e->card;
    int last = 2 * (word.to - word.from);
    double *forward = e->forward;
    for (long t = start; t < end; t++) {
        const float *row = e->rows + t * c->label_count;
        for (int s = last; s >= 0; s--) { /* downwards: what is below is still of the row before */
            const span *of = e->spans + word.from + s / 2;
            int label = s % 2 ? of->label : c->blank;
            double score = row[label], sum = t == start && s < 2 ? 0.0 : -INFINITY;
            if (c->separator >= 0 && (s == 0 || s == last))
                score = log_add(score, row[c->separator]);
            if (t > start) {
                sum = forward[s];
                if (s > 0) sum = log_add(sum, forward[s - 1]);
                if (s > 2 && s % 2 && label != of[-1].label) sum = log_add(sum, forward[s - 2]);
            }
            forward[s] = sum + score;
        }
    }
    return log_add(forward[last], forward[last - 1]);
}

static float calibrated(const card *c, double log_prob) {
    double certain = fmin(log_prob, -1e-6); /* for the sake of its logit */
    double evidence = c->scale * (certain - log(-expm1(certain))) + c->offset;
    return (float)(1.0 / (1.0 + exp(-fmax(evidence, -700.0))));
}

/* The sound of a word is its own frames and half of the gaps beside it, up to a reach. */
static float confidence(earshot *e, int word, int count) {
    long reach = lround(REACH_SECONDS * e->card.sample_rate / e->card.hop);
    const part *p = e->parts + word;
    long own_start = e->spans[p->from].start - e->first_frame;
    long own_end = e->spans[p->to - 1].end - e->first_frame;
    long low = 0, high = e->length;
    if (word) low = (e->spans[p[-1].to - 1].end - e->first_frame + own_start) / 2;
    if (word + 1 < count) high = (own_end + e->spans[p[1].from].start - e->first_frame) / 2;
    if (low < own_start - reach) low = own_start - reach;
    if (high > own_end + reach) high = own_end + reach;
    return calibrated(&e->card, reading(e, *p, low, high));
}

static int split(earshot *e) { /* the spans into words; returns their number */
    int count = 0, open = 0;
    for (int k = 0; k < e->span_count; k++) {
        if (e->spans[k].label == e->card.separator) {
            open = 0;
            continue;
        }
        if (!open || !e->card.spells) e->parts[count++].from = k;
        e->parts[count - 1].to = k + 1;
        open = 1;
    }
    return count;
}

static void end_utterance(earshot *e) {
    const card *c = &e->card;
    double frame_seconds = (double)c->hop / c->sample_rate;
    double free_from = (double)e->first_frame * frame_seconds; /* no word begins before */
    char *out = e->text, *word_out = e->word_text;
    int count = split(e);
    for (int n = 0; n < count; n++) {
        const span *first = e->spans + e->parts[n].from, *end = e->spans + e->parts[n].to;
        earshot_word *word = e->words + n;
        word->text = word_out;
        for (const span *s = first; s < end; s++)
            word_out = strcpy(word_out, c->labels[s->label]) + strlen(c->labels[s->label]);
        if (n) *out++ = ' ';
        out = strcpy(out, word->text) + strlen(word->text);
        word_out++;
        word->start = fmax((double)first->start * frame_seconds - c->onset, free_from);
        free_from = word->end = (double)end[-1].end * frame_seconds;
        word->confidence = confidence(e, n, count);
    }
    if (count) {
        earshot_event event = {.kind = EARSHOT_UTTERANCE, .text = e->text, .words = e->words};
        event.word_count = (size_t)count;
        event.start = e->words[0].start;
        event.time = event.end = free_from;
        emit(e, &event);
    }
    e->span_count = 0;
    e->first_frame = (long)e->frame;
    e->silent_frames = e->length = 0;
}

/* Words: the best label of each frame, repeats and blanks removed. */
static void greedy(earshot *e, const float *row) {
    const card *c = &e->card;
    int label = 0, gap = c->separator < 0 ? c->blank : c->separator;
    for (int k = 1; k < c->label_count; k++)
        if (row[k] > row[label]) label = k;
    if (label == e->last_label) {
        if (e->span_count && label != c->blank) e->spans[e->span_count - 1].end = (long)e->frame + 1;
    } else if (label != c->blank) {
        e->spans[e->span_count++] = (span){label, (long)e->frame, (long)e->frame + 1};
    }
    memcpy(e->rows + e->length * c->label_count, row, (size_t)c->label_count * sizeof *row);
    e->last_label = label;
    e->frame++;
    e->length++;
    e->silent_frames = label == c->blank || label == c->separator ? e->silent_frames + 1 : 0;
    if (e->silent_frames >= e->pause || e->length >= e->hard || (e->length >= e->soft && label == gap))
        end_utterance(e);
}

/* Typed keywords. How they are scored, confirmed and judged, and why, is said where Python does the
 * same: asr/decode/keywords/typed.py. */

static double evidence(const peak *p) {
    return log(p->score / p->of->threshold) * (double)(p->end - p->start);
}

/* Whether the sound of a peak was reported as something, or will be with better reason. */
static int has_rival(const earshot *e, const peak *p) {
    if (e->has_fired && e->last_fired.end > p->start) return 1;
    double least = fmax(0.0, evidence(p));
    for (const peak *other = e->peaks; other < e->peaks + e->peak_count; other++) {
        if (other->end > p->end + e->confirm) return 0;
        if (other->start < p->end && evidence(other) > least) return 1;
    }
    return 0;
}

static void judge(earshot *e, long frames) { /* the peaks that so many frames suffice for */
    const card *c = &e->card;
    double frame_seconds = (double)c->hop / c->sample_rate;
    while (e->peak_count && e->peaks->end + 2 * e->confirm <= frames) {
        peak p = *e->peaks;
        memmove(e->peaks, e->peaks + 1, (size_t)--e->peak_count * sizeof p);
        int quiet = e->has_fired && p.end - e->last_fired.end < e->spotting_refractory;
        if (quiet || evidence(&p) < 0.0 || has_rival(e, &p)) continue;
        e->has_fired = 1;
        e->last_fired = p;
        earshot_event event = {.kind = EARSHOT_DETECTION, .text = p.of->text};
        event.score = (float)p.score;
        event.start = (double)p.start * frame_seconds;
        event.end = (double)p.end * frame_seconds;
        event.time = (double)(e->stepped < e->samples ? e->stepped : e->samples) / c->sample_rate;
        emit(e, &event);
    }
}

/* Take the score of a keyword in a frame; the one of `confirm` frames before may be a peak now. Two
 * peaks of a keyword are further apart than that, so that one of each waits at most. */
static void confirm(earshot *e, keyword *word, double score, long start) {
    size_t newest = 2 * (size_t)e->confirm;
    memmove(word->scores, word->scores + 1, newest * sizeof *word->scores);
    memmove(word->begun, word->begun + 1, newest * sizeof *word->begun);
    word->scores[newest] = score;
    word->begun[newest] = start;
    double middle = word->scores[e->confirm];
    int top = middle >= LEAST_SCORE;
    for (int n = 0; n < e->confirm; n++)
        top = top && middle > word->scores[n] && middle >= word->scores[newest - (size_t)n];
    if (top)
        e->peaks[e->peak_count++] =
            (peak){word, middle, word->begun[e->confirm], (long)e->frame - e->confirm};
}

/* What each label costs in a frame; a separator makes no sound, so that it is as good as a blank. */
static void weigh(const card *c, const float *row, int count, int blank, int separator,
                  double *costs) {
    float highest = row[0];
    for (int k = 1; k < count; k++) highest = fmaxf(highest, row[k]);
    for (int k = 0; k < count; k++) costs[k] = row[k] - highest;
    if (separator >= 0) costs[blank] = fmax(costs[blank], costs[separator]);
    costs[blank] -= c->linger * ((double)c->hop / c->sample_rate);
}

/* Go on through a spelling by a frame, the earliest start wins; return the score of what ends now. */
static double advance(spelling *of, const double *costs, long frame) {
    double *best = of->best;
    int last = 2 * of->length - 2;
    for (int s = last; s >= 0; s--) { /* downwards: below is the frame before */
        double score = best[s], came = s ? best[s - 1] : 0.0;
        long start = of->starts[s];
        int skips = s > 1 && s % 2 == 0 && of->states[s] != of->states[s - 2];
        if (came > score) {
            score = came;
            start = s ? of->starts[s - 1] : frame;
        }
        if (skips && best[s - 2] > score) {
            score = best[s - 2];
            start = of->starts[s - 2];
        }
        best[s] = score + costs[of->states[s]];
        of->starts[s] = start;
    }
    return exp(best[last] / of->length);
}

/* The score of a keyword now. Letters and phonemes, where they are known, have to agree; those of the
 * same sound do not end in the same frame. */
static double score(earshot *e, keyword *word, long frame) {
    double letters = advance(&word->letters, e->costs, frame), now = 0.0, best = 0.0;
    if (!e->phonemes || !word->said_count) return letters;
    for (int k = 0; k < word->said_count; k++)
        now = fmax(now, advance(word->said + k, e->sound_costs, frame));
    memmove(word->sounds, word->sounds + 1, (size_t)(e->confirm - 1) * sizeof now);
    word->sounds[e->confirm - 1] = now;
    for (int n = 0; n < e->confirm; n++) best = fmax(best, word->sounds[n]);
    return sqrt(letters * best);
}

static void spot(earshot *e, int n) { /* row n of the outputs */
    const card *c = &e->card;
    long frame = (long)e->frame++;
    weigh(c, e->log_probs + n * c->label_count, c->label_count, c->blank, c->separator, e->costs);
    if (e->phonemes)
        weigh(c, e->phonemes + n * SOUNDS, SOUNDS, SOUND_BLANK, BOUNDARY, e->sound_costs);
    for (keyword *word = e->keywords; word < e->keywords + e->keyword_count; word++) {
        double now = score(e, word, frame);
        confirm(e, word, now, word->letters.starts[2 * word->letters.length - 2]);
    }
    judge(e, (long)e->frame);
}

static void end_spotting(earshot *e) {
    for (int n = 0; n < e->confirm; n++) {
        e->frame++;
        for (keyword *word = e->keywords; word < e->keywords + e->keyword_count; word++)
            confirm(e, word, 0.0, 0);
        judge(e, (long)e->frame);
    }
    judge(e, LONG_MAX);
}

/* ---- sound ---- */

/* Run the block in pcm. last: where all sound ends, silence for the trigger included, or -1. */
static int step(earshot *e, long long last) {
    const card *c = &e->card;
    OrtStatus *status =
        e->ort->Run(e->session, NULL, (const char *const *)e->names,
                    (const OrtValue *const *)e->inputs[e->side], e->state_count + 1,
                    (const char *const *)e->next_names, e->state_count + 1 + (size_t)c->phonemes,
                    e->outputs[e->side]);
    if (!ok(e, status)) return -1;
    e->side = 1 - e->side;
    e->waiting = 0;
    e->stepped += c->block;
    if (!c->ctc) {
        long long whole = last < 0 ? e->samples : last;
        long long reached = e->stepped < whole ? e->stepped : whole;
        const float *row = e->log_probs + (size_t)(e->frames - 1) * (size_t)c->label_count;
        trigger(e, row, reached < e->samples ? reached : e->samples, reached);
        return 0;
    }
    long long before = (e->stepped - c->block - c->look_ahead) / c->hop; /* below zero at first */
    long long wanted = last < 0 ? before + e->frames : (last + c->hop - 1) / c->hop;
    for (int n = 0; n < e->frames; n++) {
        if (before + n < 0 || before + n >= wanted) continue;
        if (e->keywords)
            spot(e, n);
        else
            greedy(e, e->log_probs + n * c->label_count);
    }
    return 0;
}

int earshot_push(earshot *e, const float *samples, size_t count) {
    size_t block = (size_t)e->card.block;
    while (count) {
        size_t part = block - e->waiting < count ? block - e->waiting : count;
        memcpy(e->pcm + e->waiting, samples, part * sizeof *samples);
        e->waiting += part;
        e->samples += (long long)part;
        samples += part;
        count -= part;
        if (e->waiting == block && step(e, -1)) return -1;
    }
    return 0;
}

int earshot_push_int16(earshot *e, const int16_t *samples, size_t count) {
    float converted[256];
    while (count) {
        size_t part = count < 256 ? count : 256;
        for (size_t k = 0; k < part; k++) converted[k] = (float)samples[k] / 32768.0f;
        if (earshot_push(e, converted, part)) return -1;
        samples += part;
        count -= part;
    }
    return 0;
}

int earshot_finish(earshot *e) {
    const card *c = &e->card;
    long long last = e->samples + c->closing;
    while (e->samples && e->stepped < last + c->look_ahead) {
        memset(e->pcm + e->waiting, 0, ((size_t)c->block - e->waiting) * sizeof *e->pcm);
        if (step(e, last)) return -1;
    }
    if (e->keywords)
        end_spotting(e);
    else if (c->ctc)
        end_utterance(e);
    return 0;
}

void earshot_reset(earshot *e) {
    for (int side = 0; side < 2; side++)
        for (size_t k = 0; k < e->state_count; k++)
            memset(e->states[side][k], 0, e->sizes[k] * sizeof(float));
    e->side = 0;
    e->waiting = 0;
    e->samples = e->stepped = e->frame = e->quiet_until = 0;
    e->recent_first = e->recent_count = e->span_count = 0;
    e->first_frame = e->silent_frames = e->length = 0;
    e->last_label = e->card.blank;
    memset(e->fired, 0, (size_t)e->card.label_count);
    reset_spotter(e);
}

int earshot_sample_rate(const earshot *e) { return e->card.sample_rate; }

const char *earshot_error(const earshot *e) { return e->error; }

void earshot_close(earshot *e) {
    if (!e) return;
    for (int side = 0; side < 2; side++) {
        for (size_t k = 0; k < MOST_TENSORS; k++) {
            if (e->inputs[side][k]) e->ort->ReleaseValue(e->inputs[side][k]);
            if (e->outputs[side][k]) e->ort->ReleaseValue(e->outputs[side][k]);
            if (k < MOST_STATES) free(e->states[side][k]);
        }
    }
    for (size_t k = 0; k < MOST_TENSORS; k++) {
        free(e->names[k]);
        free(e->next_names[k]);
    }
    for (int k = 0; e->card.labels && k < e->card.label_count; k++) free(e->card.labels[k]);
    free(e->card.labels);
    free(e->card.silent);
    free(e->card.thresholds);
    free(e->pcm);
    free(e->log_probs);
    free(e->phonemes);
    free(e->recent);
    free(e->recent_ends);
    free(e->fired);
    free(e->spans);
    free(e->rows);
    free(e->parts);
    free(e->words);
    free(e->forward);
    free(e->text);
    free(e->word_text);
    close_spotter(e);
    if (e->memory) e->ort->ReleaseMemoryInfo(e->memory);
    if (e->session) e->ort->ReleaseSession(e->session);
    if (e->env) e->ort->ReleaseEnv(e->env);
    free(e);
}
