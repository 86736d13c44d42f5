// A model of texts: token ids go in, one text at a time.
package com.example.starter

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer
import ai.onnxruntime.OnnxTensor
import java.io.Closeable
import java.io.File
import java.nio.LongBuffer
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.json.JSONObject

abstract class TextModel(folder: File) : Closeable {
    private val session = Session(folder)
    private val tokenizer: HuggingFaceTokenizer
    protected val record: JSONObject = session.record
    protected val settings: JSONObject = record.getJSONObject("text")
    protected val output: String = record.getJSONArray("outputs").getJSONObject(0).getString("name")

    init {
        // The library would cut at 512 tokens, whatever the bundle's file says.
        val most = settings.getInt("max_tokens").toString()
        val lengths = mapOf("maxLength" to most, "modelMaxLength" to most)
        val options = lengths + mapOf("truncation" to "true", "padding" to "false")
        val path = File(folder, "tokenizer.json").toPath()
        tokenizer = HuggingFaceTokenizer.newInstance(path, options)
    }

    /** The token ids of a text, special tokens included, cut as the check cut it. */
    fun tokens(text: String): LongArray = tokenizer.encode(text).ids

    /** The model's answer to token ids. No padding: it would change the answer. */
    protected suspend fun run(ids: LongArray): Output = withContext(Dispatchers.Default) {
        val all = mapOf(
            "input_ids" to ids,
            "attention_mask" to LongArray(ids.size) { 1 },
            "token_type_ids" to LongArray(ids.size),
        )
        val feeds = session.inputs.associateWith { row(all.getValue(it)) }
        session.run(feeds).getValue(output)
    }

    private fun row(values: LongArray): OnnxTensor {
        val shape = longArrayOf(1, values.size.toLong())
        return OnnxTensor.createTensor(Session.environment, LongBuffer.wrap(values), shape)
    }

    override fun close() {
        tokenizer.close()
        session.close()
    }
}
