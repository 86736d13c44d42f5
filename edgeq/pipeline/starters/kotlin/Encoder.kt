// A sentence encoder: a text becomes one vector.
package com.example.starter

import java.io.File
import kotlin.math.sqrt
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.json.JSONObject

class Model private constructor(folder: File) : TextModel(folder) {
    private val defaultPrompt: String? =
        if (settings.isNull("default_prompt")) null else settings.getString("default_prompt")

    /** A text with a prompt in front of it, by a name of the model's prompts. */
    fun prompted(text: String, prompt: String? = defaultPrompt): String =
        if (prompt == null) text else settings.getJSONObject("prompts").getString(prompt) + text

    /** The vector of a text. Pooling is part of the model. */
    suspend fun embed(text: String, prompt: String? = defaultPrompt): FloatArray =
        run(tokens(prompted(text, prompt))).values

    /** The answer to one case of the self-test. */
    suspend fun answer(case: JSONObject): Answer {
        val ids = tokens(prompted(case.getString("text")))
        return Answer(ids.toList(), mapOf(output to run(ids)), null)
    }

    /** Lines that say how similar each text is to the first. */
    suspend fun show(texts: List<String>): List<String> {
        val first = embed(texts[0])
        return texts.drop(1).map { "%.4f %s".format(cosine(first, embed(it)), it) }
    }

    companion object {
        /** Open an unpacked bundle. */
        suspend fun load(folder: File): Model = withContext(Dispatchers.IO) { Model(folder) }

        val samples =
            listOf("how do I reset my password", "steps to change a login", "rain tomorrow")
    }
}

private fun dot(a: FloatArray, b: FloatArray) = a.indices.sumOf { (a[it] * b[it]).toDouble() }

private fun cosine(a: FloatArray, b: FloatArray) = dot(a, b) / sqrt(dot(a, a) * dot(b, b))
