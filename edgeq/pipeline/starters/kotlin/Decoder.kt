// A language model: it continues a text, token by token.
package com.example.starter

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer
import ai.onnxruntime.OnnxTensor
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.withContext
import org.json.JSONObject

/** `context`: the most tokens of a text, with its continuation. One text at a time. */
class Model private constructor(folder: File, context: Int) : Closeable {
    private val session = Session(folder)
    private val record = session.record
    private val context = minOf(context, record.getJSONObject("text").getInt("max_tokens"))
    private val tokenizer = HuggingFaceTokenizer.newInstance(
        File(folder, "tokenizer.json").toPath(),
        mapOf("truncation" to "false", "padding" to "false"),
    )
    private val endTokens =
        readJson(File(folder, "bundle.json")).getJSONArray("end_tokens").map { getLong(it) }.toSet()
    private val scores: FloatBuffer
    /** Arrays that stay from run to run: keys and values of the tokens that were read, scores. */
    private val inputs = mutableMapOf<String, OnnxTensor>()
    private val outputs = mutableMapOf<String, OnnxTensor>()
    private val memory = mutableListOf<FloatBuffer>()
    private var position = 0

    init {
        for (value in record.getJSONArray("inputs").map { getJSONObject(it) }) {
            val name = value.getString("name")
            if (!name.startsWith("past_key_values.")) continue
            val shape = value.getJSONArray("shape").map { optLong(it, this@Model.context.toLong()) }
            // One memory for both: new keys and values are written where the old ones are.
            inputs[name] = floats(shape).also { memory += it }.tensor(shape)
            outputs[name.replace("past_key_values", "present")] = inputs.getValue(name)
        }
        val logits = record.getJSONArray("outputs").getJSONObject(0).getJSONArray("shape")
        val shape = listOf(1, 1, logits.getLong(2))
        scores = floats(shape)
        outputs["logits"] = scores.tensor(shape)
    }

    /** The token ids of a text, with the special tokens that precede one. */
    fun tokens(text: String): LongArray = tokenizer.encode(text).ids

    /** Forgets the text that was read. */
    private fun clear() {
        position = 0
        memory.forEach { values -> repeat(values.capacity()) { values.put(it, 0f) } }
    }

    /** The scores of the token that follows `ids`, which are read behind what was read before. */
    private fun append(ids: LongArray): FloatArray {
        require(ids.isNotEmpty() && position + ids.size <= context) {
            "${ids.size} tokens are none, or do not fit into $context"
        }
        for (begin in ids.indices step AT_ONCE) {
            val piece = ids.copyOfRange(begin, minOf(begin + AT_ONCE, ids.size))
            val own = mapOf(
                "input_ids" to longs(piece, 1, piece.size.toLong()),
                "past_length" to longs(longArrayOf(position.toLong()), 1),
                "logits_to_keep" to longs(longArrayOf(1), 1),
            )
            session.run(inputs + own, outputs)
            own.values.forEach(OnnxTensor::close)
            position += piece.size
        }
        return FloatArray(scores.capacity()) { scores[it] }
    }

    /** The likeliest continuation of a prompt, in pieces, until an end token or `most` tokens. */
    fun generate(prompt: String, most: Int = 64): Flow<String> = flow {
        clear()
        var ids = tokens(prompt)
        // A token's text depends on those before it: a space may begin it or not.
        var recent = ids.takeLast(4)
        var shown = recent.size
        repeat(most) {
            if (position + ids.size > context) return@flow
            val scores = append(ids)
            val next = scores.indices.maxBy { scores[it] }.toLong()
            if (next in endTokens) return@flow
            ids = longArrayOf(next)
            recent = recent + next
            val before = letters(recent.take(shown))
            val whole = letters(recent)
            // The bytes of a character may come in several tokens.
            if (whole.size > before.size && whole.last() != UNFINISHED) {
                emit(whole.drop(before.size).joinToString("") { String(Character.toChars(it)) })
                recent = recent.drop(shown)
                shown = recent.size
            }
        }
    }.flowOn(Dispatchers.Default)

    private fun letters(ids: List<Long>): List<Int> =
        tokenizer.decode(ids.toLongArray(), true).codePoints().toArray().toList()

    /** The token ids of one case of the self-test, and the scores of the token after them. */
    suspend fun answer(case: JSONObject): Answer = withContext(Dispatchers.Default) {
        val ids = tokens(case.getString("text"))
        clear()
        val found = append(ids)
        Answer(ids.toList(), mapOf("logits" to Output(listOf(found.size.toLong()), found)), null)
    }

    /** Every text with its continuation. */
    suspend fun show(texts: List<String>): List<String> =
        texts.map { it + generate(it).toList().joinToString("") }

    override fun close() {
        (inputs + outputs).values.distinct().forEach(OnnxTensor::close)
        tokenizer.close()
        session.close()
    }

    companion object {
        /** Tokens in one run: attention takes memory for each of them. */
        private const val AT_ONCE = 512
        private const val UNFINISHED = 0xFFFD

        /** Open an unpacked bundle. */
        suspend fun load(folder: File, context: Int = 2048): Model =
            withContext(Dispatchers.IO) { Model(folder, context) }

        val samples = listOf("It was")
    }
}

/** Memory outside of the Java heap, which onnxruntime uses as it is. */
private fun floats(shape: List<Long>): FloatBuffer {
    val bytes = ByteBuffer.allocateDirect(4 * shape.fold(1L, Long::times).toInt())
    return bytes.order(ByteOrder.nativeOrder()).asFloatBuffer()
}

private fun FloatBuffer.tensor(shape: List<Long>): OnnxTensor =
    OnnxTensor.createTensor(Session.environment, this, shape.toLongArray())

private fun longs(values: LongArray, vararg shape: Long): OnnxTensor =
    OnnxTensor.createTensor(Session.environment, LongBuffer.wrap(values), shape)
