// A text classifier: a text gets a probability for each label.
package com.example.starter

import java.io.File
import kotlin.math.exp
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.json.JSONObject

class Model private constructor(folder: File) : TextModel(folder) {
    private val classes = record.getJSONObject("classes")
    private val names = classes.getJSONArray("labels").map { getString(it) }
    private val function = classes.getString("function")

    /** The probability of each label. */
    suspend fun classify(text: String): Map<String, Float> = probabilities(run(tokens(text)))

    private fun probabilities(output: Output): Map<String, Float> {
        val scores = output.values
        val largest = scores.max()
        val sum = scores.sumOf { exp(it - largest).toDouble() }.toFloat()
        return names.zip(scores.toList()).associate { (label, score) ->
            label to when (function) {
                "softmax" -> exp(score - largest) / sum
                "sigmoid" -> 1 / (1 + exp(-score))
                else -> score
            }
        }
    }

    /** The labels that a text gets: the likeliest, or each above one half if it has several. */
    fun labels(probabilities: Map<String, Float>): List<String> =
        if (function == "sigmoid") probabilities.filterValues { it >= 0.5f }.keys.toList()
        else listOf(probabilities.maxByOrNull { it.value }!!.key)

    /** The answer to one case of the self-test. */
    suspend fun answer(case: JSONObject): Answer {
        val ids = tokens(case.getString("text"))
        val scores = run(ids)
        return Answer(ids.toList(), mapOf(output to scores), labels(probabilities(scores)))
    }

    /** Lines with the probability of each label, for each text. */
    suspend fun show(texts: List<String>): List<String> = texts.flatMap { text ->
        listOf(text) + classify(text).map { (label, share) -> "  %.4f %s".format(share, label) }
    }

    companion object {
        /** Open an unpacked bundle. */
        suspend fun load(folder: File): Model = withContext(Dispatchers.IO) { Model(folder) }

        val samples = listOf("it works well", "it broke on the first day")
    }
}
