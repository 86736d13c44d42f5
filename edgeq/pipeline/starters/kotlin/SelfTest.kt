// Proves that this program gives the answers that were checked.
package com.example.starter

import java.io.File
import kotlin.math.pow
import kotlin.math.sqrt
import org.json.JSONObject

/** Run the bundle's self-test; `say` gets a line for each case. Returns the number of failures. */
suspend fun selfTest(model: Model, folder: File, say: (String) -> Unit): Int {
    val test = readJson(File(folder, "selftest.json"))
    val which = if (cpuName() == test.getString("cpu")) "same" else "other"
    val most = test.getDouble("largest_distance_${which}_cpu")
    return test.getJSONArray("cases").map { getJSONObject(it) }.withIndex().count { (i, case) ->
        val begin = System.nanoTime()
        val got = model.answer(case)
        val took = (System.nanoTime() - begin) / 1e6
        val gap = case.getJSONArray("outputs").map { getJSONObject(it) }.maxOf { distance(it, got) }
        val ids = case.optJSONArray("token_ids")?.map { getLong(it) }
        val labels = case.optJSONArray("labels")?.map { getString(it) }
        val others = listOfNotNull(
            "OTHER TOKEN IDS, ".takeIf { ids != null && ids != got.tokens },
            "OTHER LABELS, ".takeIf { labels != null && labels != got.labels },
        )
        val passes = gap <= most && others.isEmpty()
        val verdict = if (passes) "pass" else "FAIL"
        val far = "distance %.1e (at most %s), %.1f ms".format(gap, most, took)
        say("case ${i + 1}: $verdict, ${others.joinToString("")}$far")
        !passes
    }
}

/** Length of the difference over the length of the listed values. */
private fun distance(expected: JSONObject, got: Answer): Double {
    val values = got.outputs.getValue(expected.getString("name")).values
    val wanted = expected.getJSONArray("values").map { getDouble(it) }
    val found = expected.getJSONArray("at").map { values[getInt(it)] }
    val difference = wanted.zip(found).sumOf { (a, b) -> (a - b).pow(2) }
    return if (difference == 0.0) 0.0 else sqrt(difference / wanted.sumOf { it.pow(2) })
}

/** The CPU's name; elsewhere kernels may round differently. Arm CPUs have none. */
private fun cpuName(): String? =
    Regex("model name\\s*: (.*)").find(cpuInfo())?.groupValues?.get(1)
